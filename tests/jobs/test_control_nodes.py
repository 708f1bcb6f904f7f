"""Conditions and loops in pipelines, as the unmodified SDK sends them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("control_nodes.py")
PRIVATE = "AZURE_ML_CLI_PRIVATE_FEATURES_ENABLED"


def test_control_nodes(aml_local, connection, ended, children, read):
    scope = connection.tracking_uri.split("/")
    names = (scope[scope.index("subscriptions") + 1], "tests", scope[-1])
    ran = aml_local("run", "--", sys.executable, SCRIPT, *names, **{PRIVATE: "true"})
    if ran.returncode:
        pytest.fail(ran.stderr)
    jobs = {name: ended(Named(job)) for name, job in json.loads(ran.stdout).items()}
    steps = {name: set(children(job)) for name, job in jobs.items()}
    assert {job.status for job in jobs.values()} == {"Completed"}
    assert steps == {
        "chosen_yes": {"decide", "yes"},
        "chosen_no": {"decide", "no"},
        "counted": {"body", "body#1", "body#2", "last"},
        "limited": {"count", "count#1"},
        "gathered": {"body#0", "body#1", "gather"},
    }
    assert read(jobs["counted"], "made") == "4\n"
    assert read(jobs["gathered"], "made") == "3\n5\n"


class Named:
    """A job of which only the name is known."""

    def __init__(self, name):
        self.name = name
