"""Which workspace is entered, and what entering does to the process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aml_magics import login, session
from aml_magics.errors import BadInput, NotLoggedIn, WorkspaceUnreachable
from aml_magics.local import daemon

NAMES = ("subscription", "resource_group", "workspace")
NOTHING = dict.fromkeys(NAMES, "")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for variables in login.VARIABLES.values():
        for name in variables:
            monkeypatch.delenv(name, raising=False)


def write_config(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    content = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
    (folder / "config.json").write_text(json.dumps(content))


def test_a_config_file_is_found_upwards(tmp_path, monkeypatch):
    write_config(tmp_path / ".azureml")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    choice = login.choose(NOTHING)

    assert choice == ("s", "g", "w", ".azureml/config.json in a folder above")


def test_flags_win_over_a_config_file(tmp_path, monkeypatch):
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)

    assert login.choose({**NOTHING, "workspace": "other"}) == ("s", "g", "other", "flags")


def test_environment_variables_name_a_workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZUREML_ARM_SUBSCRIPTION", "s")
    monkeypatch.setenv("AZUREML_ARM_RESOURCEGROUP", "g")
    monkeypatch.setenv("AZUREML_ARM_WORKSPACE_NAME", "w")

    assert login.choose(NOTHING) == ("s", "g", "w", "environment variables")


def test_a_subscription_alone_names_no_workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "s")

    assert login.choose(NOTHING) is None


@pytest.mark.parametrize("line", ["login -w w", "login -g g", "login -w w -g g"])
def test_half_a_workspace_is_refused(line, offline):
    with pytest.raises(BadInput) as caught:
        offline(line)
    assert "--subscription" in caught.value.hint


def test_a_bare_login_without_configuration_is_local_and_says_so(offline, daemon_home):
    found = offline("login")

    assert "local" in found.how and found.name == "local"
    assert found.tracking_uri.startswith("http://127.0.0.1:")
    assert "chosen" in repr(found)


def test_login_sets_the_process_up_and_logout_restores_it(offline, daemon_home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "before")
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD", raising=False)
    found = offline("login --local")
    assert os.environ["MLFLOW_TRACKING_URI"] == found.tracking_uri
    assert os.environ["AZUREML_CURRENT_CLOUD"].startswith("aml-local")

    offline("logout")
    assert os.environ["MLFLOW_TRACKING_URI"] == "before"
    assert "AZUREML_CURRENT_CLOUD" not in os.environ
    with pytest.raises(NotLoggedIn):
        offline("job list")


def test_a_login_without_a_credential_says_what_to_type(offline, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no az there
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    with pytest.raises(NotLoggedIn) as caught:
        offline("login -g group -w workspace --subscription s")

    assert "az login" in caught.value.hint
    assert len(caught.value._render_traceback_()) <= 5
    assert session.active() is None


def test_use_returns_to_a_workspace_logged_in_to_before(offline, daemon_home):
    offline("login --local -w one")
    first = os.environ["MLFLOW_TRACKING_URI"]
    offline("login --local -w two")
    assert offline("whoami").name == "two"

    assert offline("use one").name == "one"
    assert os.environ["MLFLOW_TRACKING_URI"] == first
    with pytest.raises(NotLoggedIn, match="three"):
        offline("use three")


def test_no_token_is_shown(offline, daemon_home):
    found = offline("login --local")
    token = session.current().token()

    assert token not in repr(found) + found._repr_html_() + offline("whoami -O json")


def test_a_daemon_that_is_gone_is_named_and_comes_back(offline, tmp_path, monkeypatch):
    monkeypatch.setenv("AML_LOCAL_HOME", str(tmp_path / "own"))
    offline("login --local")
    daemon.stop()
    with pytest.raises(WorkspaceUnreachable) as caught:
        offline("job list")
    assert "%aml login --local" in caught.value.hint

    offline("login --local")
    assert offline("job list").empty
    daemon.stop()
