"""Connections of every type the SDK has: made, read, listed by type, with secrets, deleted."""

from __future__ import annotations

import pytest
from azure.ai.ml import entities
from azure.ai.ml.entities import (
    AadCredentialConfiguration,
    AccessKeyConfiguration,
    AccountKeyConfiguration,
    ApiKeyConfiguration,
    ManagedIdentityConfiguration,
    NoneCredentialConfiguration,
    PatTokenConfiguration,
    SasTokenConfiguration,
    ServicePrincipalConfiguration,
    UsernamePasswordConfiguration,
    WorkspaceConnection,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

HUSH = "hush"
URL = "https://there.invalid/"
ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
KEY = {"api_key": HUSH}
LAKE = entities.OneLakeConnectionArtifact(name="lake")
BLOB = {"url": URL, "container_name": "c", "account_name": "acct"}
ONE_LAKE = {"endpoint": "onelake.invalid", "artifact": LAKE, "one_lake_workspace_name": "w"}
PRINCIPAL = ServicePrincipalConfiguration(tenant_id="t", client_id="c", client_secret=HUSH)
IDENTITY = ManagedIdentityConfiguration(client_id="c", resource_id=ID)
PASSWORD = UsernamePasswordConfiguration(username="me", password=HUSH)
PAT = PatTokenConfiguration(pat=HUSH)
SAS = SasTokenConfiguration(sas_token=HUSH)
ACCESS = AccessKeyConfiguration(access_key_id="id", secret_access_key=HUSH)
ACCOUNT = AccountKeyConfiguration(account_key=HUSH)
NONE, AAD = NoneCredentialConfiguration(), AadCredentialConfiguration()
# The SDK's class for a type, what it needs beside credentials, and the type to list it by.
CLASSES = {
    "AzureOpenAIConnection": ({"azure_endpoint": URL, "api_version": "1"}, "azure_open_ai"),
    "AzureAIServicesConnection": ({"endpoint": URL, "ai_services_resource_id": ID}, "AIServices"),
    "AzureAISearchConnection": ({"endpoint": URL}, "cognitive_search"),
    "AzureContentSafetyConnection": ({"endpoint": URL}, "cognitive_service"),
    "AzureSpeechServicesConnection": ({"endpoint": URL}, "cognitive_service"),
    "APIKeyConnection": ({"api_base": URL}, "api_key"),
    "OpenAIConnection": ({}, "open_ai"),
    "SerpConnection": ({}, "serp"),
    "ServerlessConnection": ({"endpoint": URL}, "serverless"),
    "AzureBlobStoreConnection": (BLOB, "azure_blob"),
    "MicrosoftOneLakeConnection": (ONE_LAKE, "azure_one_lake"),
}
STORES = {"AzureBlobStoreConnection": [AAD, SAS, ACCOUNT]}
STORES["MicrosoftOneLakeConnection"] = [AAD, PRINCIPAL]
WITHOUT_KEY = [*CLASSES][:5]  # the user's own identity will do
TYPES = {
    "git": [NONE, PAT, PASSWORD],
    "python_feed": [NONE, PAT, PASSWORD],
    "container_registry": [IDENTITY, PASSWORD],
    "azure_data_lake_gen2": [PRINCIPAL, AAD, IDENTITY],
    "feature_store": [NONE],
    "s3": [ACCESS],
    "snowflake": [PASSWORD, NONE],
    "azure_sql_db": [PASSWORD, PRINCIPAL],
    "azure_synapse_analytics": [PASSWORD],
    "azure_my_sql_db": [PASSWORD],
    "azure_postgres_db": [PASSWORD],
    "custom": [ApiKeyConfiguration(key=HUSH), NONE],
}
KEYED = [(name, KEY) for name in CLASSES if name not in STORES]
OPEN = [(name, {}) for name in WITHOUT_KEY]
LAKES = [(name, {"credentials": one}) for name, kinds in STORES.items() for one in kinds]
PLAIN = [(name, {"credentials": one}) for name, kinds in TYPES.items() for one in kinds]
# By what other name a type is listed.
LISTED = {"custom": "custom_keys", "azure_data_lake_gen2": "ADLSGen2"}


def _connection(kind, given):
    if kind in CLASSES:
        return getattr(entities, kind)(name="mine", **CLASSES[kind][0], **given), CLASSES[kind][1]
    made = WorkspaceConnection(name="mine", type=kind, target=URL, metadata={"a": "b"}, **given)
    return made, LISTED.get(kind, kind)


def _id(value):
    return (
        value if isinstance(value, str) else "-".join(type(one).__name__ for one in value.values())
    )


@pytest.mark.parametrize(("kind", "given"), [*KEYED, *OPEN, *LAKES, *PLAIN], ids=_id)
def test_a_connection_comes_back_as_it_was_made(client, arm, kind, given):
    asked, listed_as = _connection(kind, given)
    group = client.connections
    group.create_or_update(asked)
    found = group.get("mine")
    assert type(found) is type(asked)
    same = ("name", "type", "target", "metadata", "is_shared")
    assert {name: getattr(found, name) for name in same} == {
        name: getattr(asked, name) for name in same
    }
    assert type(found.credentials) is type(asked.credentials)
    assert HUSH not in arm("GET", "./connections/mine").text + arm("GET", "./connections").text
    if isinstance(asked.credentials, ApiKeyConfiguration):
        assert group.get("mine", populate_secrets=True).credentials.key == HUSH
        (one,) = group.list(connection_type=listed_as, populate_secrets=True)
        assert one.credentials.key == HUSH
    assert [one.name for one in group.list(connection_type=listed_as)] == ["mine"]
    assert list(group.list(connection_type="redis")) == []
    group.delete("mine")
    with pytest.raises(ResourceNotFoundError):
        group.get("mine")


@pytest.mark.parametrize("given", [PAT, PASSWORD, PRINCIPAL, SAS, ACCESS, ACCOUNT], ids=_id)
def test_a_secret_of_any_kind_is_told_when_asked_for(client, arm, given):
    asked = WorkspaceConnection(name="mine", type="redis", target=URL, credentials=given)
    client.connections.create_or_update(asked)
    told = arm("POST", "./connections/mine/listsecrets").json()["properties"]["credentials"]
    assert HUSH in told.values()


def test_a_new_secret_takes_the_place_of_the_old(client, arm):
    asked = WorkspaceConnection(name="mine", type="git", target=URL, credentials=PAT)
    client.connections.create_or_update(asked)
    changed = arm("PATCH", "./connections/mine", {"properties": {"credentials": {"pat": "psst"}}})
    assert (changed.status_code, "psst" in changed.text) == (200, False)
    told = arm("POST", "./connections/mine/listsecrets").json()
    assert told["properties"]["credentials"] == {"pat": "psst"}


def test_what_azure_openai_has_deployed_is_not_known_here(client):
    asked = entities.AzureOpenAIConnection(name="mine", azure_endpoint=URL, api_key=HUSH)
    client.connections.create_or_update(asked)
    with pytest.raises(HttpResponseError, match="not emulate GET") as refusal:
        list(client.azure_openai_deployments.list("mine"))
    assert refusal.value.status_code == 501
    assert "/connections/mine/deployments" in refusal.value.message
    with pytest.raises(ResourceNotFoundError):
        list(client.azure_openai_deployments.list("other"))
