"""Models through the unmodified SDK and MLflow's registry: one set, seen from both sides."""

from __future__ import annotations

import mlflow
import pytest
from azure.ai.ml import Output, command
from azure.ai.ml.entities import Environment, Model
from azure.core.exceptions import ResourceNotFoundError
from mlflow.exceptions import MlflowException

MLMODEL = "artifact_path: model\nflavors:\n  python_function:\n    loader_module: none\n"
TRITON = {"resnet/1/model.onnx": b"\0" * 20, "resnet/config.pbtxt": b"name: 'resnet'\n"}
FILES = {
    "custom_model": {"weights.bin": b"\0" * 10},
    "mlflow_model": {"MLmodel": MLMODEL.encode()},
    "triton_model": TRITON,
}
LINE = "mkdir -p ${{outputs.model}} && echo w > ${{outputs.model}}/w.bin"
NO_ENVIRONMENT = Environment(image="none.invalid/none")


def _write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def _read(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def weights(tmp_path):
    return _write(tmp_path / "weights", FILES["custom_model"])


@pytest.fixture
def registered(client, weights):
    """A model of the workspace with one version."""
    return client.models.create_or_update(Model(name="m", version="1", path=weights))


@pytest.fixture
def registry(client):
    """MLflow's registry of the workspace."""
    return mlflow.MlflowClient()


@pytest.mark.parametrize("kind", FILES)
def test_a_model_of_each_type_comes_back_file_for_file(client, tmp_path, kind):
    folder = _write(tmp_path / "model", FILES[kind])
    made = client.models.create_or_update(Model(name="m", path=folder, type=kind))
    found = client.models.get("m", label="latest")
    assert (made.version, found.version, found.type) == ("1", "1", kind)
    assert bool(found.flavors) == (kind == "mlflow_model")
    client.models.download("m", "1", download_path=tmp_path / "got")
    assert _read(tmp_path / "got" / "m" / "model") == FILES[kind]


def test_a_model_from_a_file_comes_back(client, weights, tmp_path):
    client.models.create_or_update(Model(name="m", path=weights / "weights.bin"))
    client.models.download("m", "1", download_path=tmp_path / "got")
    assert [*_read(tmp_path / "got").values()] == [b"\0" * 10]


def _ended(client, **options):
    job = client.jobs.create_or_update(
        command(command=LINE, environment=NO_ENVIRONMENT, compute="any", **options)
    )
    client.jobs.stream(job.name)
    return job.name


def test_a_model_from_a_jobs_output(client, tmp_path):
    job = _ended(client, outputs={"model": Output(type="custom_model")})
    for path in ("", "/paths/", "/paths/w.bin"):
        uri = f"azureml://jobs/{job}/outputs/model{path}"
        made = client.models.create_or_update(Model(name="m", path=uri, type="custom_model"))
        assert made.job_name == job
        client.models.download("m", made.version, download_path=tmp_path / made.version)
        assert [*_read(tmp_path / made.version).values()] == [b"w\n"]
    assert [model.version for model in client.models.list("m")] == ["3", "2", "1"]


def test_a_model_from_a_run(client, registry, tmp_path):
    _write(tmp_path / "model", FILES["mlflow_model"])
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tmp_path))
    path = f"runs:/{run.info.run_id}/model"
    made = client.models.create_or_update(Model(name="m", path=path, type="mlflow_model"))
    assert (made.version, made.job_name) == ("1", run.info.run_id)
    assert registry.get_model_version("m", "1").run_id == run.info.run_id
    client.models.download("m", "1", download_path=tmp_path / "got")
    assert list((tmp_path / "got").rglob("MLmodel"))


def test_what_is_not_there_is_no_model(client):
    for path in ("azureml://jobs/none/outputs/model", "runs:/none/model"):
        with pytest.raises(ResourceNotFoundError):
            client.models.create_or_update(Model(name="m", path=path, type="custom_model"))
    assert list(client.models.list()) == []


def test_a_model_is_archived_and_restored_as_version_and_whole(client, registered, weights):
    client.models.create_or_update(Model(name="m", version="2", path=weights / "weights.bin"))
    client.models.archive("m", version="2")
    assert [model.version for model in client.models.list("m")] == ["1"]
    assert client.models.get("m", label="latest").version == "1"
    client.models.restore("m", version="2")
    assert [model.version for model in client.models.list("m")] == ["2", "1"]
    client.models.archive("m")
    assert list(client.models.list()) == []
    client.models.restore("m")
    assert [model.name for model in client.models.list()] == ["m"]


# The workspace's side to MLflow's


def test_mlflow_sees_what_the_workspace_says_of_a_version(client, registered, registry):
    registered.description, registered.tags = "Good.", {"team": "a"}
    client.models.create_or_update(registered)
    found = registry.get_model_version("m", "1")
    assert (found.description, found.tags) == ("Good.", {"team": "a"})
    registered.tags = {"other": "b"}
    client.models.create_or_update(registered)
    assert registry.get_model_version("m", "1").tags == {"other": "b"}


def test_mlflow_sees_the_stage_the_workspace_gives(client, registered, registry):
    registered.stage = "Production"
    client.models.create_or_update(registered)
    assert registry.get_model_version("m", "1").current_stage == "Production"


# MLflow's side to the workspace's


def test_the_workspace_sees_what_mlflow_says_of_a_version(client, registered, registry):
    registry.update_model_version("m", "1", "Better.")
    registry.set_model_version_tag("m", "1", "team", "b")
    found = client.models.get("m", "1")
    assert (found.description, found.tags) == ("Better.", {"team": "b"})
    registry.delete_model_version_tag("m", "1", "team")
    assert client.models.get("m", "1").tags == {}


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")
def test_the_workspace_sees_the_stage_mlflow_gives(client, registered, registry):
    registry.transition_model_version_stage("m", "1", "Staging")
    assert client.models.get("m", "1").stage == "Staging"
    assert [model.version for model in client.models.list("m", stage="Staging")] == ["1"]


def test_an_alias_names_a_version_of_the_workspace(client, registered, registry, weights):
    registry.set_registered_model_alias("m", "champion", "1")
    assert registry.get_model_version_by_alias("m", "champion").version == "1"
    found = mlflow.artifacts.download_artifacts("models:/m@champion")
    assert found
    client.models.create_or_update(Model(name="m", version="2", path=weights / "weights.bin"))
    registry.set_registered_model_alias("m", "champion", "2")
    assert registry.get_model_version_by_alias("m", "champion").version == "2"
    registry.delete_registered_model_alias("m", "champion")
    with pytest.raises(MlflowException, match="alias champion not found"):
        registry.get_model_version_by_alias("m", "champion")


def test_a_model_deleted_in_mlflow_is_gone_with_its_versions(client, registered, registry):
    registry.delete_registered_model("m")
    with pytest.raises(ResourceNotFoundError):
        client.models.get("m", "1")
    assert list(client.models.list()) == []
