"""Registries through the unmodified SDK: made, found by name, filled, read, deleted."""

from __future__ import annotations

from uuid import uuid4

import pytest
from azure.ai.ml import MLClient, load_component
from azure.ai.ml.entities import (
    Data,
    Environment,
    Model,
    Registry,
    RegistryRegionDetails,
    SystemCreatedAcrAccount,
    SystemCreatedStorageAccount,
)
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


def test_sharing_is_not_emulated(client, registry, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"weights")
    client.models.create_or_update(Model(name="m", version="1", path=tmp_path / "w.bin"))
    target = {"share_with_name": "m", "share_with_version": "1", "registry_name": registry.name}
    with pytest.raises(HttpResponseError) as caught:
        client.models.share("m", "1", **target)
    assert caught.value.status_code == 501
