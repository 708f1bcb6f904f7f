"""What makes the state in the store true on this machine: processes of jobs and endpoints."""
