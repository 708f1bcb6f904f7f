"""What can follow is offered in %aml, %%aml and x = %aml, and nowhere else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

# text → what is offered among the rest
OFFERED = {
    "%aml ": {"job", "login", "compare", "online-endpoint"},
    "%aml jo": {"job"},
    "%aml job ": {"create", "list", "stream"},
    "x = %aml job str": {"stream"},
    "%%aml jo": {"job"},
    "%%aml job --ex": {"--experiment"},
    "%%aml sw": {"sweep"},
    "%%aml sweep --ex": {"--experiment"},
    "%aml swee": set(),
    "%aml job create --": {"--file", "--set", "--no-wait", "--format"},
    "%aml data create --type ": {"mltable", "uri_file", "uri_folder"},
    "%aml job list -O ": {"json", "yaml", "table", "tsv"},
    "%aml workspace outbound-rule ": {"list", "show"},
    "%aml job create -f conf": {"config/"},
    "%aml job create -f config/j": {"config/job.yml"},
}


@pytest.mark.parametrize("text", OFFERED)
def test_what_can_follow_is_offered(text, complete):
    Path("config").mkdir()
    Path("config/job.yml").touch()

    assert set(complete(text)) >= OFFERED[text]


@pytest.mark.parametrize("text", ["aml jo", "%%aml job\ncomm", "%amlet jo", "print('%aml jo"])
def test_other_lines_are_left_alone(text, complete):
    assert complete(text) == []


def test_flags_are_offered_where_no_name_is_known(complete):
    assert "--experiment" in complete("%%aml job create ")


def test_flags_that_do_not_work_here_are_not_offered(complete):
    assert "--web" not in complete("%aml job create --")


def test_names_come_from_the_workspace_at_once(aml, complete):
    complete("%aml job show ")
    aml("job -n calm_fox --no-wait", "pass")
    assert "calm_fox" in complete("%aml job show ca")


def test_a_slow_workspace_is_not_waited_for(aml, complete, monkeypatch):
    answer = threading.Event()

    def pages(session, path):
        answer.wait()
        return iter([{"name": "late_fox"}])

    monkeypatch.setattr("aml_magics.rest.pages", pages)
    assert "--name" in complete("%aml datastore show ")  # no names yet, and no answer either
    answer.set()
