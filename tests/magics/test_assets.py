"""The verbs that all kinds of assets share, on the local workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_magics.assets import named
from aml_magics.errors import BadCommand, BadInput, NotFound


@pytest.fixture
def data_file(shell):
    Path("data.csv").write_text("a,b\n1,2\n")
    return "data.csv"


def test_a_data_asset_is_made_from_flags(aml, data_file):
    asset = aml(f"data create --name iris --path {data_file} --type uri_file")

    assert (asset.name, asset.version, asset.type) == ("iris", "1", "uri_file")
    assert repr(asset).startswith("data iris:1\n")
    assert str(Path.cwd()) not in repr(asset) + asset._repr_html_() + asset._repr_markdown_()


def test_a_data_asset_is_made_from_a_file_and_set(aml, data_file):
    Path("asset.yml").write_text("name: from-file\npath: data.csv\ntype: uri_file\n")
    asset = aml("data create -f asset.yml --set description='two rows' tags.a=b")

    assert (asset.name, asset.description, asset.tags) == ("from-file", "two rows", {"a": "b"})


def test_the_latest_version_is_shown_unless_another_is_named(aml, data_file):
    aml(f"data create --name d --path {data_file} --type uri_file")
    Path(data_file).write_text("changed")
    aml(f"data create --name d --path {data_file} --type uri_file --version 2")

    shown = {word: aml(f"data show {word}").version for word in ("d", "d:1", "d@latest", "d -v 1")}
    assert shown == {"d": "2", "d:1": "1", "d@latest": "2", "d -v 1": "1"}
    assert sorted(aml("data list --name d")["version"]) == ["1", "2"]


def test_an_asset_is_archived_and_restored(alone, data_file):
    alone(f"data create --name d --path {data_file} --type uri_file")
    alone("data archive --name d")
    assert alone("data list").empty
    alone("data restore --name d")
    assert list(alone("data list")["name"]) == ["d"]


def test_an_environment_is_made(aml):
    asset = aml("environment create --name mine --image python:3.11 --description plain")

    assert (asset.name, asset.image) == ("mine", "python:3.11")
    assert "mine" in list(aml("environment list")["name"])


def test_datastores_are_listed_without_their_keys(aml):
    table = aml("datastore list")

    assert "workspaceblobstore" in list(table["name"])
    assert "key" not in aml("datastore show workspaceblobstore -O yaml").lower()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("m", ("m", "", "")),
        ("m:3", ("m", "3", "")),
        ("azureml:m@latest", ("m", "", "latest")),
    ],
)
def test_a_reference_is_a_name_and_a_version_or_label(text, parts):
    assert named(text) == parts


# line → error, words it holds
WRONG = {
    "data show nothing": (NotFound, "%aml data list"),
    "data show nothing -v 1": (NotFound, "nothing"),
    "model show nothing": (NotFound, "%aml model list"),
    "data create --name d --path missing.csv --type uri_file": (BadInput, "missing.csv"),
    "data create -f missing.yml": (BadInput, "missing.yml"),
    "data create --name d": (BadInput, "path"),
    "data update -n d": (BadCommand, "--set"),
    "online-endpoint delete -n e": (BadCommand, "--yes"),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be_done_says_why(line, fails):
    kind, words = WRONG[line]
    error = fails(line)

    assert type(error) is kind
    assert words in "\n".join(error._render_traceback_())
