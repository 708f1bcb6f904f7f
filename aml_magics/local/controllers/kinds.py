"""Jobs that are one process on this machine: each type as the command job that does its work."""

from __future__ import annotations

from collections.abc import Callable

from aml_magics.local.controllers import automl, parallel, spark, transfer
from aml_magics.local.store import Body


def _command(job: Body) -> Body:
    return job


# Type of job → its properties as those of a command job: command, codeId, environmentId, ….
AS_COMMAND: dict[str, Callable[[Body], Body]] = {
    "AutoML": automl.as_command,
    "Command": _command,
    "DataTransfer": transfer.as_command,
    "Parallel": parallel.as_command,
    "Spark": spark.as_command,
}
