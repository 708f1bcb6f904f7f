"""Settings: one row each, read from the environment when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple


class Setting(NamedTuple):
    default: Any
    variable: str
    help: str
    convert: Callable[[str], Any]


SETTINGS = {
    "environment": Setting(
        "azureml://registries/azureml/environments/sklearn-1.5/labels/latest",
        "AML_ENVIRONMENT",
        "environment of a %%aml job cell that names none",
        str,
    ),
    "instance_type": Setting(
        "Standard_DS3_v2", "AML_INSTANCE_TYPE", "machine of a deployment that names none", str
    ),
    "compute": Setting(
        "cpu-cluster", "AML_COMPUTE", "compute of a batch deployment that names none", str
    ),
    "max_results": Setting(50, "AML_MAX_RESULTS", "rows of a list, without --max-results", int),
    "poll_seconds": Setting(
        0.15,
        "AML_POLL_SECONDS",
        "shortest time between two reads of a job's log, in seconds",
        float,
    ),
    "reconnect_seconds": Setting(
        30.0,
        "AML_RECONNECT_SECONDS",
        "how long a lost connection is retried while following a job, in seconds",
        float,
    ),
    "widgets": Setting(
        "auto",
        "AML_WIDGETS",
        "live views: auto (where a person looks on), always or never",
        str,
    ),
    "timeout_seconds": Setting(
        60.0, "AML_TIMEOUT_SECONDS", "limit for one answer of the workspace, in seconds", float
    ),
}


def get(name: str) -> Any:
    """The value of one setting: its environment variable, or its default."""
    setting = SETTINGS[name]
    text = os.environ.get(setting.variable)
    return setting.convert(text) if text else setting.default
