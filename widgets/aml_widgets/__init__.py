"""Live views of runs and jobs in a notebook, told what to call; they know no workspace."""
