"""Programs that a job's process runs beside the user's own: plain scripts, which import nothing
of this package, since they may run in an environment of the job's."""
