"""Datastores through the unmodified SDK: every kind with every kind of credential."""

from __future__ import annotations

import pytest
from azure.ai.ml.entities import (
    AccountKeyConfiguration,
    AzureBlobDatastore,
    AzureDataLakeGen1Datastore,
    AzureDataLakeGen2Datastore,
    AzureFileDatastore,
    CertificateConfiguration,
    OneLakeArtifact,
    OneLakeDatastore,
    SasTokenConfiguration,
    ServicePrincipalConfiguration,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

IDS = {"tenant_id": "10000000-0000-0000-0000-000000000001", "client_id": "2" * 32}
PRINCIPAL = ServicePrincipalConfiguration(**IDS, client_secret="hush")
CERTIFICATE = CertificateConfiguration(**IDS, certificate="hush", thumbprint="ff")
KEY = AccountKeyConfiguration(account_key="hush")
SAS = SasTokenConfiguration(sas_token="hush")
PLACES = {
    "blob": (AzureBlobDatastore, {"account_name": "acct", "container_name": "c"}),
    "file": (AzureFileDatastore, {"account_name": "acct", "file_share_name": "c"}),
    "gen1": (AzureDataLakeGen1Datastore, {"store_name": "store"}),
    "gen2": (AzureDataLakeGen2Datastore, {"account_name": "acct", "filesystem": "f"}),
    "onelake": (
        OneLakeDatastore,
        {
            "one_lake_workspace_name": "w",
            "endpoint": "onelake.dfs.fabric.microsoft.com",
            "artifact": OneLakeArtifact(name="lake", type="lake_house"),
        },
    ),
}
CASES = [
    ("blob", None),
    ("blob", KEY),
    ("blob", SAS),
    ("file", KEY),
    ("file", SAS),
    ("gen1", PRINCIPAL),
    ("gen1", CERTIFICATE),
    ("gen2", PRINCIPAL),
    ("gen2", CERTIFICATE),
    ("onelake", PRINCIPAL),
]
SECRETS = ("account_key", "sas_token", "client_secret", "certificate")


@pytest.mark.parametrize(("place", "credentials"), CASES)
def test_a_datastore_comes_back_and_its_secret_only_when_asked(client, arm, place, credentials):
    kind, where = PLACES[place]
    asked = kind(name="mine", description="Mine.", credentials=credentials, **where)
    made = client.datastores.create_or_update(asked)
    found = client.datastores.get("mine")
    assert type(made) is type(found) is kind
    assert {key: getattr(found, key) for key in where if key != "artifact"} == {
        key: value for key, value in where.items() if key != "artifact"
    }
    assert "hush" not in arm("GET", "./datastores/mine").text
    if credentials:
        told = client.datastores.get("mine", include_secrets=True).credentials
        assert "hush" in [getattr(told, secret, None) for secret in SECRETS]
    client.datastores.delete("mine")
    with pytest.raises(ResourceNotFoundError, match="Could not find datastore: mine"):
        client.datastores.get("mine")


def test_the_workspace_has_its_own_datastores(client):
    assert sorted(found.name for found in client.datastores.list()) == [
        "workspaceartifactstore",
        "workspaceblobstore",
        "workspacefilestore",
        "workspaceworkingdirectory",
    ]
    assert client.datastores.get_default().name == "workspaceblobstore"
    with pytest.raises(HttpResponseError, match="is the workspace's own"):
        client.datastores.delete("workspaceblobstore")


def test_a_datastore_can_become_the_default(client, arm):
    client.datastores.create_or_update(
        AzureBlobDatastore(name="mine", account_name="acct", container_name="c")
    )
    body = arm("GET", "./datastores/mine").json()
    body["properties"]["isDefault"] = True
    assert arm("PUT", "./datastores/mine", body).status_code == 200
    assert client.datastores.get_default().name == "mine"


@pytest.mark.parametrize(
    "properties",
    [
        None,
        [],
        {},
        {"datastoreType": "Tape"},
        {"datastoreType": "AzureBlob"},
        {"datastoreType": ["AzureBlob"]},
        {"datastoreType": "AzureDataLakeGen1", "storeName": "s", "credentials": 3},
        {
            "datastoreType": "AzureDataLakeGen1",
            "storeName": "s",
            "credentials": {"credentialsType": "Guess"},
        },
    ],
)
def test_what_is_no_datastore_is_refused(arm, properties):
    assert arm("PUT", "./datastores/bad", {"properties": properties}).status_code == 400
