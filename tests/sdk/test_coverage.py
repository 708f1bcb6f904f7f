"""The published list of what is emulated: current, and complete for the SDK that is installed."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

import azure.ai.ml._ml_client as module
import pytest
from azure.ai.ml import MLClient

from aml_magics.local import coverage

ROOT = Path(__file__).parents[2]


def groups():
    """The operations of each group of MLClient, as the SDK declares them."""
    for name, member in vars(MLClient).items():
        if not isinstance(member, property) or name.startswith("_"):
            continue
        kind = typing.get_type_hints(member.fget, vars(module))["return"]
        if kind is not str and inspect.isclass(kind):
            names = (one for one in dir(kind) if not one.startswith("_"))
            yield name, {one for one in names if callable(getattr(kind, one))}


def test_the_committed_file_is_current():
    assert (ROOT / "docs" / "coverage.md").read_text("utf-8") == coverage.document()


def test_every_group_of_the_sdk_is_listed():
    assert {name for name, _ in groups()} == set(coverage.OPERATIONS)


@pytest.mark.parametrize("name", coverage.OPERATIONS)
def test_every_operation_of_the_sdk_is_listed_once(name):
    listed = " ".join(coverage.OPERATIONS[name]).split()
    assert sorted(listed) == sorted(dict(groups())[name])
