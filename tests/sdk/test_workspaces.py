"""Workspaces through the unmodified SDK: made by a deployment, changed, listed, deleted."""

from __future__ import annotations

import time
from uuid import uuid4

import mlflow
import psutil
import pytest
from azure.ai.ml import command, dsl
from azure.ai.ml.constants import WorkspaceKind
from azure.ai.ml.entities import Data, Environment, FeatureStore, Hub, Project, Workspace
from azure.core.exceptions import ResourceNotFoundError


@pytest.fixture
def name():
    return f"new-{uuid4().hex[:8]}"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    return path


def test_a_workspace_is_created_changed_and_deleted(strict_client, name):
    client = strict_client
    asked = Workspace(name=name, display_name="New", description="One.", tags={"team": "a"})
    made = client.workspaces.begin_create(asked).result()
    assert (made.name, made.display_name, made.tags["team"]) == (name, "New", "a")
    assert made.discovery_url
    made.display_name, made.tags = "Newer", {"team": "b"}
    changed = client.workspaces.begin_update(made).result()
    assert (changed.display_name, changed.description) == ("Newer", "One.")
    assert client.workspaces.get(name).tags == {"team": "b"}
    client.workspaces.begin_delete(name, delete_dependent_resources=True).result()
    with pytest.raises(ResourceNotFoundError):
        client.workspaces.get(name)


def test_a_deleted_workspace_is_made_again_only_by_creating_it(client, tmp_path):
    mlflow.create_experiment("gone")
    (tmp_path / "x.txt").write_text("x")
    name = client.workspace_name
    client.data.create_or_update(Data(name="x", path=tmp_path / "x.txt", type="uri_file"))
    client.workspaces.begin_delete(name, delete_dependent_resources=False).result()
    with pytest.raises(ResourceNotFoundError):
        list(client.data.list())
    client.workspaces.begin_create(Workspace(name=name)).result()
    assert list(client.data.list()) == []
    assert [found.name for found in mlflow.search_experiments()] == ["Default"]
    mlflow.create_experiment("new")
    assert client.datastores.get_default().name == "workspaceblobstore"


@pytest.mark.parametrize("with_its_files", [True, False])
def test_a_workspace_goes_with_its_files_when_asked(client, address, table, with_its_files):
    client.data.create_or_update(Data(name="x", path=table, type="uri_file"))
    account = client.datastores.get_default().account_name
    folder = address.home / "storage" / account
    assert list(folder.rglob(table.name))
    options = {"delete_dependent_resources": with_its_files}
    client.workspaces.begin_delete(client.workspace_name, **options).result()
    assert bool(list(folder.rglob(table.name))) != with_its_files


def test_creating_what_was_made_on_demand_changes_it(client):
    name = client.workspaces.get().name
    made = client.workspaces.begin_create(Workspace(name=name, display_name="New")).result()
    assert made.display_name == "New"


@pytest.mark.parametrize("in_a_pipeline", [False, True])
def test_what_runs_in_a_deleted_workspace_is_ended(client, in_a_pipeline):
    environment = Environment(image="none.invalid/none")
    sleep = command(command="sleep 602", environment=environment, compute="cpu")

    @dsl.pipeline
    def steps():
        sleep()

    client.jobs.create_or_update(steps() if in_a_pipeline else sleep)
    while not sleeping():
        time.sleep(0.05)
    client.workspaces.begin_delete(client.workspace_name, delete_dependent_resources=False).result()
    deadline = time.monotonic() + 20
    while sleeping() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not sleeping()


def sleeping():
    """Whether any process of the job of that test is there."""
    lines = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return any(line[-2:] == ["sleep", "602"] for line in lines)


@pytest.mark.parametrize("scope", ["resource_group", "subscription"])
def test_workspaces_are_listed(client, name, scope):
    client.workspaces.begin_create(Workspace(name=name)).result()
    names = [found.name for found in client.workspaces.list(scope=scope)]
    assert name in names


def test_a_workspace_is_not_made_by_looking_whether_it_is_there(client, name):
    assert client.workspaces.get(client.workspace_name).name == client.workspace_name
    with pytest.raises(ResourceNotFoundError):
        client.workspaces.get(name)


def test_a_hub_has_projects(client, name):
    hub = client.workspaces.begin_create(Hub(name=name)).result()
    project = Project(name=f"{name}-p", hub_id=hub.id)
    made = client.workspaces.begin_create(project).result()
    assert made.hub_id == hub.id
    assert isinstance(client.workspaces.get(name), Hub)
    assert isinstance(client.workspaces.get(f"{name}-p"), Project)
    hubs = client.workspaces.list(filtered_kinds=[WorkspaceKind.HUB])
    assert name in [found.name for found in hubs]
    assert f"{name}-p" not in [found.name for found in hubs]


def test_the_keys_are_those_of_the_storage(client):
    keys = client.workspaces.get_keys()
    secret = client.datastores.get("workspaceblobstore", include_secrets=True).credentials
    assert keys.user_storage_key == secret.account_key
    assert client.workspaces.begin_sync_keys().result() is None


def test_a_diagnosis_finds_nothing(client):
    found = client.workspaces.begin_diagnose(client.workspace_name).result()
    assert found.storage_account_results == []


def test_a_strange_deployment_is_not_emulated(arm):
    path = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Resources/deployments/d"
    body = {"properties": {"template": {}, "parameters": {}}}
    assert arm("PUT", path, body).status_code == 501
    assert arm("PUT", path, {"properties": 3}).status_code == 400
    assert arm("GET", path).status_code == 404


def test_a_feature_store_is_a_workspace_of_its_kind(client, name):
    stores = client.feature_stores
    made = stores.begin_create(FeatureStore(name=name, description="One.")).result()
    assert (made.name, made.description) == (name, "One.")
    assert name in [found.name for found in stores.list()]
    assert stores.get(name).name == name
    stores.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError):
        stores.get(name)
