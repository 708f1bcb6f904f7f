"""Models registered from jobs and from files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_magics.errors import BadInput, NotFound

TWO_MODELS = """
import mlflow
from sklearn.linear_model import LinearRegression
model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
signature = mlflow.models.infer_signature([[0.0]], [0.0])
mlflow.log_metric("loss", 0.0)
mlflow.sklearn.log_model(model, name="logged", signature=signature)
mlflow.sklearn.save_model(model, "saved")
mlflow.log_artifacts("saved", "deep/saved")
"""


@pytest.fixture(scope="module")
def two_models() -> dict[str, str]:
    """Name of the job that logged two, by the workspace that it is in."""
    return {}


@pytest.fixture
def job(aml, workspace, two_models):
    if workspace not in two_models:
        two_models[workspace] = aml("job", TWO_MODELS).name
    return two_models[workspace]


def test_models_are_listed_when_a_job_has_more_than_one(job, fails):
    error = fails(f"register {job}")

    assert "logged, deep/saved" in str(error) and "--artifact" in error.hint


def test_a_registered_model_knows_its_job_and_commit_here_and_in_mlflow(aml, job, shell):
    import mlflow

    shell.user_ns["run"] = mlflow.get_run(job)
    model = aml("register $run --artifact logged --name both --alias champion")

    version = mlflow.MlflowClient().get_model_version_by_alias("both", "champion")
    assert (model.job_name, model.alias, version.run_id, version.version) == (
        job,
        "champion",
        job,
        "1",
    )
    commit = mlflow.get_run(job).data.tags.get("git_commit")
    assert model.properties.get("git_commit") == commit
    assert version.tags.get("git_commit") == commit


ONLY_A_MODEL = """
import mlflow, numpy
from sklearn.linear_model import LinearRegression
model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
mlflow.sklearn.log_model(model, name="only", input_example=numpy.zeros((1, 1)))
"""


def test_a_cell_that_only_logs_a_model_can_be_registered(aml):
    assert aml(f"register {aml('job', ONLY_A_MODEL).name}").name == "only"


def test_an_alias_moves_to_the_version_registered_last(aml, job):
    for version in ("1", "2"):
        aml(f"register {job} --artifact logged --name moved --alias champion")
        plan = aml("deploy moved@champion --dry-run")
        assert f"model: azureml:moved:{version}" in plan
    shown = aml("model show moved@champion")
    assert (shown.version, shown.aliases) == ("2", ["champion"])
    assert aml("model list -n moved").set_index("version").aliases.to_dict() == {
        "2": "champion",
        "1": "",
    }


def test_a_model_is_named_by_mlflows_uri(aml, job, fails):
    assert aml(f"register runs:/{job}/logged -n by-uri").name == "by-uri"
    assert "has no model 'three'" in str(fails(f"register {job} --artifact three"))


def test_a_model_without_signature_is_refused_unless_that_is_wanted(aml, job, fails):
    error = fails(f"register {job} --artifact deep/saved")
    assert "infer_signature" in error.hint and "--allow-no-signature" in error.hint
    assert "saved" not in list(aml("model list")["name"])
    assert aml(f"register {job} --artifact deep/saved --allow-no-signature").version == "1"


@pytest.mark.parametrize("alias", ["latest", "v2", "with space"])
def test_what_cannot_be_an_alias_is_refused_before_anything_is_made(aml, job, fails, alias):
    assert "alias" in str(fails(f"register {job} --artifact logged -n never --alias '{alias}'"))
    assert "never" not in list(aml("model list")["name"])


def test_files_of_this_machine_are_registered(aml):
    Path("weights.bin").write_bytes(b"1")
    plain = aml("register weights.bin --tags stage=test")
    assert (plain.name, plain.type, plain.tags) == ("weights", "custom_model", {"stage": "test"})


def test_a_model_in_a_folder_is_registered(aml, job):
    import mlflow

    mlflow.artifacts.download_artifacts(run_id=job, artifact_path="deep/saved", dst_path=".")
    place = next(Path().rglob("MLmodel")).parent
    model = aml(f"register {place} --name local --allow-no-signature")
    assert (model.name, model.type) == ("local", "mlflow_model")


def test_a_job_without_a_model_cannot_be_registered(aml, fails):
    job = aml("job", "print('nothing')")
    error = fails(f"register {job.name} --name m")

    assert isinstance(error, BadInput) and "log_artifacts" in error.hint


def test_an_unknown_job_or_file_cannot_be_registered(fails):
    assert isinstance(fails("register nothing --name m"), NotFound)
    assert "no file ./nothing" in str(fails("register ./nothing --name m"))
