"""What is stored only, through the unmodified SDK: it comes back, and nothing pretends to run."""

from __future__ import annotations

import pytest
from azure.ai.ml import MLClient, command, dsl
from azure.ai.ml.entities import (
    ApiKeyConfiguration,
    BatchEndpoint,
    CapabilityHost,
    CronTrigger,
    DataColumn,
    Environment,
    FeatureSet,
    FeatureSetSpecification,
    FeatureStoreEntity,
    FqdnDestination,
    Hub,
    JobSchedule,
    MarketplaceSubscription,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
    RecurrencePattern,
    RecurrenceTrigger,
    ServerlessEndpoint,
    WorkspaceConnection,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

TRIGGERS = {
    "cron": CronTrigger(expression="15 10 * * 1", time_zone="UTC"),
    "recurrence": RecurrenceTrigger(
        frequency="day", interval=1, schedule=RecurrencePattern(hours=10, minutes=[0, 30])
    ),
}


@pytest.fixture
def schedule():
    def make(trigger):
        step = command(command="echo hello", environment=Environment(image="none.invalid/none"))

        @dsl.pipeline(experiment_name="nightly", compute="cpu")
        def nightly():
            step()

        return JobSchedule(name="nightly", trigger=TRIGGERS[trigger], create_job=nightly())

    return make


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_schedule_is_kept_enabled_and_disabled(client, schedule, trigger):
    made = client.schedules.begin_create_or_update(schedule(trigger)).result()
    assert (made.name, made.is_enabled, made.trigger.type.lower()) == ("nightly", True, trigger)
    assert client.schedules.get("nightly").create_job.experiment_name == "nightly"
    with pytest.raises(HttpResponseError, match="Cannot delete an active trigger nightly"):
        client.schedules.begin_delete("nightly").result()
    client.schedules.begin_disable("nightly").result()
    assert list(client.schedules.list()) == []
    assert [found.name for found in client.schedules.list(list_view_type="ALL")] == ["nightly"]
    client.schedules.begin_enable("nightly").result()
    assert client.schedules.get("nightly").is_enabled
    client.schedules.begin_disable("nightly").result()
    client.schedules.begin_delete("nightly").result()
    with pytest.raises(ResourceNotFoundError):
        client.schedules.get("nightly")


def test_a_batch_endpoint_and_its_deployment(client):
    asked = BatchEndpoint(name="nightly-scores", description="Scores.", tags={"team": "a"})
    endpoint = client.batch_endpoints.begin_create_or_update(asked).result()
    assert endpoint.auth_mode == "aad_token"
    assert endpoint.scoring_uri.endswith("/jobs")
    deployment = ModelBatchDeployment(
        name="first",
        endpoint_name="nightly-scores",
        model="azureml:m:1",
        compute="cpu",
        settings=ModelBatchDeploymentSettings(mini_batch_size=5, instance_count=2),
    )
    client.batch_deployments.begin_create_or_update(deployment).result()
    found = client.batch_deployments.get("first", "nightly-scores")
    assert (found.mini_batch_size, found.resources.instance_count) == (5, 2)
    endpoint.defaults.deployment_name = "first"
    endpoint = client.batch_endpoints.begin_create_or_update(endpoint).result()
    assert client.batch_endpoints.get("nightly-scores").defaults.deployment_name == "first"
    assert [one.name for one in client.batch_endpoints.list()] == ["nightly-scores"]
    assert [one.name for one in client.batch_deployments.list("nightly-scores")] == ["first"]
    assert list(client.batch_endpoints.list_jobs("nightly-scores")) == []
    client.batch_deployments.begin_delete("first", "nightly-scores").result()
    client.batch_endpoints.begin_delete("nightly-scores").result()
    with pytest.raises(ResourceNotFoundError):
        client.batch_endpoints.get("nightly-scores")


def test_a_deployment_needs_its_endpoint(arm):
    path = "./batchEndpoints/nowhere/deployments/first"
    assert arm("PUT", path, {"properties": {}}).status_code == 404
    assert arm("GET", "./batchEndpoints/nowhere/deployments").status_code == 404


def test_a_connection_gives_its_secret_only_when_asked(client, arm):
    asked = WorkspaceConnection(
        name="git",
        type="git",
        target="https://git.invalid/x",
        credentials=ApiKeyConfiguration(key="hush"),
    )
    client.connections.create_or_update(asked)
    assert client.connections.get("git").target == "https://git.invalid/x"
    assert "hush" not in arm("GET", "./connections/git").text + arm("GET", "./connections").text
    assert client.connections.get("git", populate_secrets=True).credentials.key == "hush"
    assert [found.name for found in client.connections.list()] == ["git"]
    assert list(client.connections.list(connection_type="s3")) == []
    client.connections.delete("git")
    with pytest.raises(ResourceNotFoundError):
        client.connections.get("git")


def test_an_outbound_rule(client):
    rules, ws = client.workspace_outbound_rules, client.workspace_name
    rules.begin_create(ws, FqdnDestination(name="pypi", destination="pypi.org")).result()
    assert rules.get(ws, "pypi").destination == "pypi.org"
    rules.begin_update(ws, FqdnDestination(name="pypi", destination="*.pypi.org")).result()
    assert [rule.destination for rule in rules.list(ws)] == ["*.pypi.org"]
    rules.begin_remove(ws, "pypi").result()
    assert list(rules.list(ws)) == []


def test_a_serverless_endpoint_is_stored_and_offline(client):
    model = "azureml://registries/azureml-meta/models/Llama"
    endpoint = ServerlessEndpoint(name="llama", model_id=model)
    client.serverless_endpoints.begin_create_or_update(endpoint).result()
    assert client.serverless_endpoints.get("llama").model_id == model
    assert [found.name for found in client.serverless_endpoints.list()] == ["llama"]
    assert client.serverless_endpoints.get("llama").scoring_uri is None
    client.serverless_endpoints.begin_delete("llama").result()
    assert list(client.serverless_endpoints.list()) == []


def test_a_serverless_endpoint_keeps_its_keys(client, arm):
    group = client.serverless_endpoints
    model = "azureml://registries/azureml-meta/models/Llama"
    group.begin_create_or_update(ServerlessEndpoint(name="llama", model_id=model)).result()
    first = group.get_keys("llama")
    again = group.get_keys("llama")
    assert (again.primary_key, again.secondary_key) == (first.primary_key, first.secondary_key)
    # The SDK's own request for this never leaves it: it calls its client without a name.
    asked = {"keyType": "Secondary", "keyValue": first.secondary_key}
    assert arm("POST", "./serverlessEndpoints/llama/regenerateKeys", asked).status_code == 200
    new = group.get_keys("llama")
    assert new.primary_key == first.primary_key
    assert new.secondary_key not in (first.primary_key, first.secondary_key)
    with pytest.raises(ResourceNotFoundError):
        group.get_keys("other")


def test_a_marketplace_subscription(client):
    model = "azureml://registries/azureml-meta/models/Llama"
    asked = MarketplaceSubscription(name="llama", model_id=model)
    made = client.marketplace_subscriptions.begin_create_or_update(asked).result()
    assert (made.name, made.status.lower()) == ("llama", "unsubscribed")
    assert [found.name for found in client.marketplace_subscriptions.list()] == ["llama"]
    client.marketplace_subscriptions.begin_delete("llama").result()
    with pytest.raises(ResourceNotFoundError):
        client.marketplace_subscriptions.get("llama")


def test_entities_and_sets_of_a_feature_store(client, arm):
    columns = [{"columnName": "id", "dataType": "String"}]
    path = "./featurestoreEntities/account/versions/1"
    body = {"properties": {"indexColumns": columns, "stage": "Development"}}
    assert arm("PUT", path, body).status_code == 201
    assert arm("GET", path).json()["properties"]["indexColumns"] == columns
    assert arm("PUT", path, {"properties": {"indexColumns": []}}).status_code == 409
    body = {"properties": {"entities": ["azureml:account:1"], "specification": {"path": "x"}}}
    assert arm("PUT", "./featuresets/sales/versions/1", body).status_code == 201
    assert [row["name"] for row in arm("GET", "./featuresets").json()["value"]] == ["sales"]
    backfill = arm("POST", "./featuresets/sales/versions/1/backfill", {})
    assert backfill.status_code == 501


SPECIFICATION = """
features:
- {name: country, type: string, description: Where., tags: {pii: "no"}}
- {name: age, type: double}
index_columns: [{name: id, type: string}]
source: {type: parquet, path: "wasbs://c@acct.blob.core.windows.net/x", timestamp_column: {name: t}}
"""


def test_features_are_read_from_the_specification(client, tmp_path):
    (tmp_path / "FeatureSetSpec.yaml").write_text(SPECIFICATION)
    entity = FeatureStoreEntity(
        name="account", version="1", index_columns=[DataColumn(name="id", type="string")]
    )
    client.feature_store_entities.begin_create_or_update(entity).result()
    asked = FeatureSet(
        name="sales",
        version="1",
        entities=["azureml:account:1"],
        specification=FeatureSetSpecification(path=str(tmp_path)),
    )
    client.feature_sets.begin_create_or_update(asked).result()
    found = client.feature_sets.get_feature("sales", "1", feature_name="country")
    assert (found.name, found.data_type.lower(), found.description) == (
        "country",
        "string",
        "Where.",
    )
    names = {
        tags: [one.name for one in client.feature_sets.list_features("sales", "1", tags=tags)]
        for tags in (None, "pii", "pii=no", "pii=yes")
    }
    assert names == {
        None: ["country", "age"],
        "pii": ["country"],
        "pii=no": ["country"],
        "pii=yes": [],
    }
    with pytest.raises(ResourceNotFoundError):
        client.feature_sets.get_feature("sales", "1", feature_name="none")


def test_a_capability_host_is_stored_in_a_hub(client, connection):
    hub = client.workspaces.begin_create(Hub(name=f"{client.workspace_name}-hub")).result()
    options = {"cloud": connection.cloud, "cloud_metadata": connection.cloud_metadata}
    names = client.subscription_id, client.resource_group_name, hub.name
    hosts = MLClient(client._credential, *names, show_progress=False, **options).capability_hosts
    hosts.begin_create_or_update(CapabilityHost(name="agents")).result()
    assert hosts.get("agents").name == "agents"
    hosts.begin_delete("agents").result()
    with pytest.raises(ResourceNotFoundError):
        hosts.get("agents")
