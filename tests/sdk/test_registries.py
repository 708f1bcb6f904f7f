"""Registries through the unmodified SDK: made, found by name, filled, read, deleted."""

from __future__ import annotations

from uuid import uuid4

import pytest
from azure.ai.ml import Input, MLClient, command, load_component
from azure.ai.ml.entities import (
    BuildContext,
    Data,
    Environment,
    Model,
    Registry,
    RegistryRegionDetails,
    SystemCreatedAcrAccount,
    SystemCreatedStorageAccount,
)
from azure.ai.ml.exceptions import MlException
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError


@pytest.fixture
def registry(client):
    storage = SystemCreatedStorageAccount(
        storage_account_hns=False, storage_account_type="standard_lrs"
    )
    place = RegistryRegionDetails(
        location="eastus",
        acr_config=[SystemCreatedAcrAccount(acr_account_sku="Premium")],
        storage_config=storage,
    )
    asked = Registry(
        name=f"reg-{uuid4().hex[:8]}", location="eastus", replication_locations=[place]
    )
    return client.registries.begin_create(asked).result()


@pytest.fixture
def in_registry(client, connection):
    """The SDK on a registry, found by its name."""

    def connect(name):
        options = {"cloud": connection.cloud, "cloud_metadata": connection.cloud_metadata}
        return MLClient(client._credential, registry_name=name, show_progress=False, **options)

    return connect


def test_a_registry_is_made_listed_and_deleted(client, registry):
    found = client.registries.get(registry.name)
    assert (found.name, found.location) == (registry.name, "eastus")
    assert registry.name in [one.name for one in client.registries.list()]
    assert registry.name in [one.name for one in client.registries.list(scope="subscription")]
    client.registries.begin_delete(name=registry.name).result()
    with pytest.raises(ResourceNotFoundError):
        client.registries.get(registry.name)


def test_a_registry_that_is_not_there(in_registry, arm):
    with pytest.raises(ResourceNotFoundError, match="Registry nothing not found"):
        in_registry("nothing")
    path = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"
    assert arm("GET", f"{path}/registries/nothing/models").status_code == 404


def test_assets_in_a_registry(registry, in_registry, tmp_path):
    client = in_registry(registry.name)
    (tmp_path / "w.bin").write_bytes(b"weights")
    client.models.create_or_update(Model(name="m", version="1", path=tmp_path / "w.bin"))
    assert client.models.get("m", version="1").type == "custom_model"
    assert [model.version for model in client.models.list("m")] == ["1"]
    client.models.download("m", "1", download_path=tmp_path / "got")
    files = [path for path in (tmp_path / "got").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [b"weights"]
    client.data.create_or_update(
        Data(name="d", version="1", path=tmp_path / "w.bin", type="uri_file")
    )
    assert client.data.get("d", version="1").type == "uri_file"
    client.environments.create_or_update(
        Environment(name="e", version="1", image="none.invalid/none")
    )
    assert client.environments.get("e", version="1").image == "none.invalid/none"


def test_a_component_in_a_registry(registry, in_registry, tmp_path):
    client = in_registry(registry.name)
    (tmp_path / "c.yml").write_text(
        "name: say\ntype: command\ncommand: echo hi\n"
        "environment: azureml://registries/azureml/environments/any/versions/1\n"
    )
    component = load_component(tmp_path / "c.yml")
    client.components.create_or_update(component, version="3")
    assert client.components.get("say", version="3").command == "echo hi"


def test_curated_environments_answer_to_any_name(client, in_registry):
    name = "AzureML-sklearn-1.0-ubuntu20.04-py38-cpu"
    found = client.environments.get(name, label="latest")
    assert (found.version, found.image) == ("1", f"mcr.microsoft.com/azureml/curated/{name}:1")
    assert client.environments.get(name, version="44").version == "44"
    assert in_registry("azureml").environments.get("sklearn-1.5", version="7").version == "7"
    with pytest.raises(ResourceNotFoundError):
        client.environments.get("mine", version="1")


@pytest.fixture
def shared(client, registry, in_registry):
    """Share an asset of the workspace with the registry; gives the SDK on that."""

    def act(group, name):
        target = {"share_with_name": f"{name}-all", "share_with_version": "7"}
        getattr(client, group).share(name, "1", **target, registry_name=registry.name)
        return in_registry(registry.name)

    return act


def test_a_model_is_shared_with_its_files(client, shared, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"weights")
    asked = Model(name="m", version="1", path=tmp_path / "w.bin", tags={"a": "b"})
    client.models.create_or_update(asked)
    registry = shared("models", "m")
    assert registry.models.get("m-all", version="7").tags == {"a": "b"}
    client.workspaces.begin_delete(client.workspace_name, delete_dependent_resources=False).result()
    registry.models.download("m-all", "7", download_path=tmp_path / "got")
    files = [path for path in (tmp_path / "got").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [b"weights"]


def test_data_and_environments_are_shared(client, shared, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM none.invalid/none\n")
    client.data.create_or_update(Data(name="d", version="1", path=tmp_path, type="uri_folder"))
    build = BuildContext(path=tmp_path)
    client.environments.create_or_update(Environment(name="e", version="1", build=build))
    registry = shared("data", "d")
    assert registry.data.get("d-all", version="7").type == "uri_folder"
    assert client.data.get("d", version="1").path not in registry.data.get("d-all", "7").path
    found = shared("environments", "e").environments.get("e-all", version="7")
    assert found.build.dockerfile_path == "Dockerfile"


def test_a_version_is_shared_once_and_only_if_it_is_there(client, registry, shared, tmp_path, arm):
    (tmp_path / "w.bin").write_bytes(b"weights")
    client.models.create_or_update(Model(name="m", version="1", path=tmp_path / "w.bin"))
    shared("models", "m")
    with pytest.raises(MlException, match="already exists in registry"):
        shared("models", "m")
    with pytest.raises(HttpResponseError, match="is not on this machine"):
        shared("models", "other")
    scope = client.workspaces.get(client.workspace_name).id.partition("/workspaces/")[0]
    source = f"azureml://locations/eastus/workspaces/{client.workspaces.get()._workspace_id}"
    for id_, status in ((f"{source}/components/c/versions/1", 501), ("x", 400), (None, 400)):
        body = {"properties": {"sourceAssetId": id_}}
        assert arm("POST", f"{scope}/registries/{registry.name}/import", body).status_code == status


def test_a_job_uses_what_a_registry_has(client, registry, in_registry, tmp_path):
    (tmp_path / "a.txt").write_text("from the registry")
    there = in_registry(registry.name)
    there.models.create_or_update(Model(name="m", version="1", path=tmp_path / "a.txt"))
    there.data.create_or_update(
        Data(name="d", version="2", path=tmp_path / "a.txt", type="uri_file")
    )
    there.environments.create_or_update(
        Environment(name="e", version="1", image="none.invalid/none")
    )
    base = f"azureml://registries/{registry.name}"
    job = command(
        command="cat ${{inputs.data}} ${{inputs.model}}; echo in ${{inputs.data}}",
        inputs={
            "data": Input(type="uri_file", path=f"{base}/data/d/versions/2"),
            "model": Input(type="custom_model", path=f"{base}/models/m/versions/1"),
        },
        environment=f"{base}/environments/e/versions/1",
        compute="cpu",
    )
    made = client.jobs.create_or_update(job)
    client.jobs.stream(made.name)
    client.jobs.download(made.name, download_path=tmp_path / "got")
    log = next((tmp_path / "got").rglob("std_log.txt")).read_text()
    assert log.count("from the registry") == 2
