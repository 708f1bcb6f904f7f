"""Programs made for Azure, unmodified, in the environment of ``aml-local run``."""

import json
import sys

import pytest

from aml_magics.local import run

TOKENS = """
import azure.identity, os, sys
secret = azure.identity.ClientSecretCredential(
    os.environ["AZURE_TENANT_ID"], os.environ["AZURE_CLIENT_ID"], os.environ["IDENTITY_HEADER"])
for credential in (azure.identity.DefaultAzureCredential(),
                   azure.identity.ManagedIdentityCredential(),
                   azure.identity.WorkloadIdentityCredential(), secret):
    assert credential.get_token("https://management.azure.com/.default").token.count(".") == 2
    credential.close()
"""
HOSTS = """
import json, socket
def where(host, port=443):
    return socket.getaddrinfo(host, port, socket.AF_INET)[0][4]
print(json.dumps([where("management.azure.com"), where(b"x.blob.core.windows.net", "https"),
                  where("localhost", 80), where("127.0.0.1")]))
"""
CHAINED = "import sys; print(sys.chained)"
WORKSPACE = """
from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential
client = MLClient(DefaultAzureCredential(), "00000000-0000-0000-0000-000000000001", "group", "mine")
print(client.workspaces.get().name, client.workspaces.get().mlflow_tracking_uri)
"""

HUB = """
import uuid
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Hub, Project
from azure.identity import DefaultAzureCredential
client = MLClient(DefaultAzureCredential(), "00000000-0000-0000-0000-000000000001", "group")
name = f"hub-{uuid.uuid4().hex[:8]}"
hub = client.workspaces.begin_create(Hub(name=name)).result()
project = client.workspaces.begin_create(Project(name=name + "-p", hub_id=hub.id)).result()
print(type(hub).__name__, type(project).__name__, project.hub_id == hub.id)
"""
STORAGE = """
import json, pathlib
from azure.ai.ml import MLClient
from azure.identity import AzureCliCredential, CredentialUnavailableError, DefaultAzureCredential
from azure.storage.blob import BlobServiceClient
from azure.storage.filedatalake import DataLakeServiceClient
names = {"subscription_id": "00000000-0000-0000-0000-000000000001", "resource_group": "group",
         "workspace_name": "mine"}
pathlib.Path(sys.argv[1], "config.json").write_text(json.dumps(names))
credential = DefaultAzureCredential()
client = MLClient.from_config(credential, path=sys.argv[1])
account = client.datastores.get_default().account_name
blobs = BlobServiceClient(f"https://{account}.blob.core.windows.net", credential)
blobs.create_container("c").upload_blob("a/b.txt", b"some bytes")
lake = DataLakeServiceClient(f"https://{account}.dfs.core.windows.net", credential)
print(lake.get_file_system_client("c").get_file_client("a/b.txt").download_file().readall().decode())
try:
    AzureCliCredential().get_token("https://management.azure.com/.default")
except CredentialUnavailableError:
    print("no login of az")
"""
JOB = """
import mlflow
from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import Environment
from azure.identity import DefaultAzureCredential

client = MLClient(DefaultAzureCredential(), "00000000-0000-0000-0000-000000000001", "group", "mine")
job = client.jobs.create_or_update(command(
    code=sys.argv[1], command="python train.py ${{inputs.C}}", inputs={"C": 0.5},
    environment=Environment(image="none.invalid/none"), compute="cpu", experiment_name="e"))
client.jobs.stream(job.name)
mlflow.set_tracking_uri(client.workspaces.get().mlflow_tracking_uri)
found = mlflow.get_run(job.name)
ended = client.jobs.get(job.name).status == "Completed"
print("RESULT", ended, found.data.params, found.data.metrics)
mlflow.set_experiment("by hand")
with mlflow.start_run() as run:
    mlflow.log_text("some text", "notes/a.txt")
files = mlflow.MlflowClient().list_artifacts(run.info.run_id, "notes")
print("LOGGED", [file.path for file in files])
print("READ", mlflow.artifacts.load_text(run.info.artifact_uri + "/notes/a.txt"))
"""
WITHOUT_PLUGIN = """
import importlib.metadata, os
every = importlib.metadata.entry_points
def those_of_mlflow_itself(**asked):
    return type(every(**asked))(e for e in every(**asked) if not e.value.startswith("azureml"))
importlib.metadata.entry_points = those_of_mlflow_itself
import mlflow
from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential
credential = DefaultAzureCredential()
client = MLClient(credential, "00000000-0000-0000-0000-000000000001", "group", "mine")
uri = client.workspaces.get().mlflow_tracking_uri
mlflow.set_tracking_uri(uri)
try:
    mlflow.set_experiment("x")
except mlflow.exceptions.MlflowException as exc:
    print("REFUSED", "unsupported URI 'azureml://" in str(exc))
token = credential.get_token("https://management.azure.com/.default").token
os.environ["MLFLOW_TRACKING_TOKEN"] = token
mlflow.set_tracking_uri(uri.replace("azureml://", "https://"))
mlflow.set_experiment("x")
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.5)
    try:
        mlflow.log_text("some text", "a.txt")
    except mlflow.exceptions.MlflowException as exc:
        print("NO FILES", "artifact repository for: azureml://" in str(exc))
print("LOGGED", mlflow.get_run(run.info.run_id).data.metrics)
"""
TEMPLATES = """
from azure.ai.ml import MLClient
from azure.ai.ml.entities import DeploymentTemplate
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential
client = MLClient(DefaultAzureCredential(), registry_name="azureml", show_progress=False)
group = client.deployment_templates
place = "azureml://registries/azureml/environments/e/versions/1"
template = DeploymentTemplate(name="t", version="1", environment=place)
for ask in (lambda: list(group.list()), lambda: group.create_or_update(template),
            lambda: group.delete("t", "1"), lambda: group.get("t", "1")):
    try:
        ask()
    except HttpResponseError as exc:
        print(exc.status_code, "does not emulate" in exc.message)
"""
TRAIN = """
import sys
import mlflow
print("training with", sys.argv[1])
mlflow.log_param("C", sys.argv[1])
mlflow.log_metric("loss", 0.25)
"""


@pytest.fixture
def script(tmp_path, aml_local):
    """Write a program, run it under ``aml-local run``, and return what it printed."""

    def run_script(source, *arguments, flags=(), **environment):
        path = tmp_path / "program.py"
        path.write_text(f"import sys\n{source}")
        done = aml_local("run", "--", sys.executable, *flags, path, *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_script


def test_every_credential_gets_a_token_here(script):
    script(TOKENS, flags=("-W", "error"))


def test_only_azures_hosts_lead_here(script, address):
    port = int(address.secure_url.rpartition(":")[2])
    here, blob, plain, loopback = json.loads(script(HOSTS))
    assert here == blob == ["127.0.0.1", port]
    assert (plain[1], loopback[1]) == (80, 443)


def test_a_sitecustomize_of_the_user_still_runs(script, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.chained = 'yes'")
    assert script(CHAINED, PYTHONPATH=str(tmp_path)) == "yes\n"


def test_the_sdk_finds_a_workspace_and_believes_itself_on_azure(script):
    name, tracking_uri = script(WORKSPACE).split()
    assert name == "mine"
    assert tracking_uri.startswith("azureml://eastus.api.azureml.ms/mlflow/")


def test_storage_is_reached_by_its_own_hosts_and_the_workspace_by_its_config_file(script, tmp_path):
    assert script(STORAGE, tmp_path) == "some bytes\nno login of az\n"


def test_a_program_can_make_a_hub_where_it_asks_for_no_workspace_on_demand(script):
    assert script(HUB, AML_LOCAL_STRICT="1") == "Hub Project True\n"


def test_a_job_is_created_streamed_and_found_by_mlflow(script, tmp_path):
    code = tmp_path / "a code folder"
    code.mkdir()
    (code / "train.py").write_text(TRAIN)
    printed = script(JOB, code)
    assert "training with 0.5" in printed
    assert "RESULT True {'C': '0.5'} {'loss': 0.25}" in printed
    assert "LOGGED ['notes/a.txt']" in printed
    assert "READ some text" in printed


@pytest.mark.parametrize(
    "name",
    ["AZURE_CLIENT_SECRET", "AZURE_USERNAME", "AZURE_TOKEN_CREDENTIALS", "ARM_CLIENT_SECRET",
     "AZURE_CLIENT_CERTIFICATE_PATH", "https_proxy", "HTTP_PROXY", "MSI_ENDPOINT"],
)  # fmt: skip
def test_the_users_own_credentials_and_proxies_stay_outside(address, name):
    assert name not in run.environment(address, {name: "mine"})


def test_names_that_the_user_has_set_are_kept(address):
    mine = {"AZURE_SUBSCRIPTION_ID": "mine", "AZURE_STORAGE_CONTAINER": "c", "PYTHONPATH": "p"}
    environment = run.environment(address, mine)
    assert environment["AZURE_SUBSCRIPTION_ID"] == "mine"
    assert environment["AZURE_STORAGE_CONTAINER"] == "c"
    assert environment["PYTHONPATH"].split(":") == [str(run.HOOK), "p"]


def test_mlflow_without_azureml_mlflow_can_do_what_it_can_on_azure(script):
    printed = script(WITHOUT_PLUGIN)
    for line in ("REFUSED True", "NO FILES True", "LOGGED {'loss': 0.5}"):
        assert line in printed


def test_deployment_templates_are_refused_by_name(script):
    # The SDK makes "not found" of any failure of a `get`.
    assert script(TEMPLATES).splitlines()[-4:] == ["501 True"] * 3 + ["None False"]
