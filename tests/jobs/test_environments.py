"""Environments of jobs: what files ask for, by table, and what is built, through the SDK."""

import platform
import time
from pathlib import Path

import psutil
import pytest
import requests
from azure.ai.ml import command
from azure.ai.ml.entities import BuildContext, Environment

from aml_magics.local import pins, specifications
from aml_magics.local.specifications import BuildFailed

LOG = "azureml-logs/20_image_build_log.txt"
IMAGE = "none.invalid/none"
OWN = platform.python_version()
TINY = "iniconfig"  # a package of one small file


def conda(*dependencies):
    lines = "\n".join(f"- {line}" for line in dependencies)
    return f"name: x\nchannels: [conda-forge]\ndependencies:\n{lines}\n"


# a conda file → the Python, and the lines of a requirements file
CONDA = {
    "python and pip": (conda("python=3.8", "pip=21.2.4"), "3.8", []),
    "a patch of a Python": (conda("python=3.8.13"), "3.8", []),
    "a build of a Python": (conda("python=3.9.7=h12debd9_1"), "3.9", []),
    "python of any patch": (conda("python=3.10.*"), "3.10", []),
    "a range of Pythons": (conda("'python>=3.8,<3.11'"), ">=3.8,<3.11", []),
    "fuzzy": (conda("numpy=1.26"), "", ["numpy==1.26.*"]),
    "exact": (conda("numpy==1.26.4"), "", ["numpy==1.26.4"]),
    "a build": (conda("numpy=1.26.4=py311_0"), "", ["numpy==1.26.4"]),
    "bounds": (conda("'pandas>=1.1,<1.2'"), "", ["pandas>=1.1,<1.2"]),
    "of a channel": (conda("conda-forge::scikit-learn=1.2.2"), "", ["scikit-learn==1.2.2.*"]),
    "by another name": (conda("pytorch=2.1", "py-xgboost"), "", ["torch==2.1.*", "xgboost"]),
    "no Python": (conda("cudatoolkit=11.3", "libgcc", "librosa"), "", ["librosa"]),
    "pip's": (conda("pip:\n  - a==1  # why\n  - b[x]>=2"), "", ["a==1", "b[x]>=2"]),
    "an index": (
        conda("pip:\n  - --extra-index-url https://x.invalid/y\n  - a"),
        "",
        ["--extra-index-url https://x.invalid/y", "a"],
    ),
}


@pytest.mark.parametrize("name", CONDA)
def test_what_a_conda_file_asks_for(name):
    text, python, lines = CONDA[name]
    found = specifications.conda(text)
    assert (found.python, list(found.requirements)) == (python, lines)


def test_what_is_left_out_of_a_conda_file_is_remarked():
    found = specifications.conda(conda("cudatoolkit=11.3", "pip", "numpy"))
    assert found.remarks == ("Left out, as they are no Python packages: cudatoolkit=11.3.",)


BAD = {
    "an editable": (conda("pip:\n  - -e ."), "'-e .', a path on another machine"),
    "a folder": (conda("pip:\n  - ./mine"), "'./mine', a path on another machine"),
    "a file": (conda("pip:\n  - -r more.txt"), "'-r more.txt', and that file is not uploaded"),
    "no YAML": ("a: [", "The conda file is not YAML"),
    "no mapping": ("- a", "holds no mapping"),
    "no package": (conda("'!'"), "'!', which names no package"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_conda_file_that_cannot_be_built_is_refused_by_name(name):
    text, words = BAD[name]
    with pytest.raises(BuildFailed) as caught:
        specifications.conda(text)
    assert words in str(caught.value)


# files of a build context → the Python, and the lines of a requirements file
CONTEXTS = {
    "requirements beside it": ({"requirements.txt": "a\nb\n"}, "", ["a", "b"]),
    "requirements by their name": (
        {
            "Dockerfile": "FROM x\nCOPY my-requirements.txt .\n",
            "my-requirements.txt": "a",
            "y.txt": "",
        },
        "",
        ["a"],
    ),
    "requirements by their place in the image": (
        {"Dockerfile": "FROM x\nRUN pip install -r /tmp/requirements.txt", "requirements.txt": "a"},
        "",
        ["a"],
    ),
    "a conda file": (
        {"Dockerfile": "COPY env/cond.yaml /x/\n", "env/cond.yaml": conda("python=3.9", "a")},
        "3.9",
        ["a"],
    ),
    "a conda file beside it": ({"Dockerfile": "FROM x", "conda.yml": conda("a=1")}, "", ["a==1.*"]),
    "files of a file": (
        {"requirements.txt": "-r sub/more.txt\na", "sub/more.txt": "b"},
        "",
        ["b", "a"],
    ),
    "pip install": (
        {"Dockerfile": "FROM x\nRUN pip install --no-cache-dir 'a>=1' \\\n    b==2 && rm -rf x"},
        "",
        ["a>=1", "b==2"],
    ),
}


def written(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", CONTEXTS)
def test_what_a_build_context_asks_for(tmp_path, name):
    files, python, lines = CONTEXTS[name]
    found = specifications.context(written(tmp_path, files), "Dockerfile")
    assert (found.python, list(found.requirements)) == (python, lines)
    assert "Dockerfile is not run here" in found.remarks[0]


def test_files_outside_of_a_build_context_are_not_read(tmp_path):
    (tmp_path / "requirements.txt").write_text("a")
    folder = written(tmp_path / "context", {"Dockerfile": "COPY ../requirements.txt .\n"})
    with pytest.raises(BuildFailed, match="no requirements file"):
        specifications.context(folder, "Dockerfile")


PINS = {  # a line → from what version on, and the line with 9.9 instead
    "a==1.2": ("a>=1.2", "a==9.9"),
    "a[x]==1.2.*": ("a[x]>=1.2", "a[x]==9.9"),
    "a~=1.2.2": ("a>=1.2.2", "a==9.9"),
    "a>=1.1,<1.2": ("a>=1.1", "a==9.9"),
    "a==1.2 ; python_version > '3'": (
        'a>=1.2 ; python_version > "3"',
        'a==9.9 ; python_version > "3"',
    ),
    "a>=1": None,
    "a": None,
    "--pre": None,
}


@pytest.mark.parametrize("line", PINS)
def test_how_a_fixed_version_is_let_go(line):
    pin = pins.pins([line]).get(line)
    assert (pin and (pin.at_least(), pin.at("9.9"))) == PINS[line]


# Built for real


@pytest.fixture
def built(client, ended, tmp_path):
    """Run a line of shell in an environment; the job, its build log and its own log."""

    def call(environment, line="python -c 'import sys; print(sys.prefix)'", seconds=120):
        made = client.jobs.create_or_update(
            command(command=line, environment=environment, compute="cpu")
        )
        job = ended(made, seconds)
        folder = tmp_path / job.name
        client.jobs.download(job.name, download_path=folder, all=True)
        logs = (next(folder.rglob(name), None) for name in (LOG, "user_logs/std_log.txt"))
        return job, *(path.read_text() if path else "" for path in logs)

    return call


def of_conda(folder, *dependencies, **named):
    written(folder, {"conda.yml": conda(*dependencies)})
    return Environment(image=IMAGE, conda_file=folder / "conda.yml", **named)


def unlike_others():
    """A line that makes an environment of its own."""
    return f"{TINY}>=0.{time.monotonic_ns() % 10**9 / 1e9:.9f}".replace(">=0.0.", ">=0.")


def test_a_conda_file_is_built_and_its_packages_imported(built, tmp_path):
    job, log, out = built(
        of_conda(tmp_path / "env", "python>=3.9", f"pip:\n  - {TINY}"),
        f"python -c 'import {TINY}; print({TINY}.__file__)'; pip --version",
    )
    assert job.status == "Completed", log
    where, pip = out.splitlines()
    assert "/environments/" in where
    assert str(Path(where).parent.parent) in pip
    assert "images are not run on the local workspace" in log


def test_its_files_are_shared_with_those_of_other_environments(built, tmp_path, address):
    built(of_conda(tmp_path / "env", unlike_others()))
    files = (address.home / "environments").rglob(f"{TINY}/__init__.py")
    assert all(file.stat().st_nlink > 1 for file in files)


def test_a_build_context_is_built_from_the_files_in_it(built, tmp_path):
    files = {"Dockerfile": "FROM x\nCOPY requirements.txt .\n", "requirements.txt": TINY}
    folder = written(tmp_path / "context", files)
    environment = Environment(build=BuildContext(path=str(folder)))
    job, log, out = built(environment, f"python -c 'import {TINY}; print({TINY}.__file__)'")
    assert job.status == "Completed", log
    assert "Dockerfile is not run here. Taken from the build context: requirements.txt." in log
    assert "/environments/" in out


def test_a_build_context_that_names_no_packages_fails_by_name(built, tmp_path, why):
    folder = written(tmp_path / "context", {"Dockerfile": "FROM x\n"})
    job, *_ = built(Environment(build=BuildContext(path=str(folder))))
    assert job.status == "Failed"
    assert "has no requirements file or conda file" in why(job)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (Environment(image=IMAGE), f"Image {IMAGE}: images are not run"),
        (
            "AzureML-sklearn-1.0-ubuntu20.04-py38-cpu@latest",
            "its image is not run here",
        ),
        ("azureml://registries/azureml/environments/sklearn-1.5/labels/latest", "is not run here"),
    ],
    ids=["image", "curated", "registry"],
)
def test_what_is_an_image_only_runs_in_the_workspaces_own_python(built, environment, words):
    job, log, _ = built(environment)
    assert job.status == "Completed", log
    assert words in log
    assert f"Using the workspace's own interpreter, Python {OWN}" in log


def test_an_environment_that_is_not_there_fails_the_job(arm, ended, client, why):
    properties = {"jobType": "Command", "command": "true", "environmentId": "azureml:nowhere:1"}
    assert arm("PUT", "./jobs/lost", {"properties": properties}).status_code == 201
    job = ended(client.jobs.get("lost"))
    assert (job.status, "There is no environment azureml:nowhere:1" in why(job)) == ("Failed", True)


def test_a_failed_build_fails_the_job_with_the_installers_words(built, tmp_path, why):
    job, log, _ = built(
        of_conda(tmp_path / "env", "python>=3.9", "pip:\n  - aml-magics-nowhere==1")
    )
    assert job.status == "Failed"
    assert "aml-magics-nowhere was not found" in log
    assert "aml-magics-nowhere was not found" in why(job)


def test_a_registered_environment_is_taken_by_its_label(client, built, tmp_path):
    asked = of_conda(tmp_path / "env", "python>=3.9", TINY, name="tiny", version="7")
    client.environments.create_or_update(asked)
    job, log, out = built("tiny@latest")
    assert (job.status, "/environments/" in out) == ("Completed", True), log


def slow(folder):
    """A package whose build begins by saying so and then takes for ever."""
    begun = folder / "begun"
    source = f"import os, time; open({str(begun)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    package = written(folder / "slow", {"setup.py": source})
    return begun, f"pip:\n  - slow @ file://{package}"


def wait_for(claim, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_two_jobs_build_an_environment_once_and_either_is_cancelled(
    client, ended, details, tmp_path
):
    begun, dependency = slow(tmp_path)
    environment = of_conda(tmp_path / "env", "python>=3.9", dependency)
    asked = [command(command="true", environment=environment, compute="cpu") for _ in "ab"]
    first = client.jobs.create_or_update(asked[0])
    pid = int(wait_for(lambda: begun.exists() and begun.read_text()))
    begun.unlink()
    second = client.jobs.create_or_update(asked[1])

    def log_of_second():
        url = details(second)["logFiles"].get(LOG)
        return requests.get(url, timeout=30).text if url else ""

    wait_for(lambda: "another job builds it, waiting for that" in log_of_second())
    client.jobs.begin_cancel(second.name).result()
    assert ended(second, 30).status == "Canceled"
    assert psutil.pid_exists(pid)
    client.jobs.begin_cancel(first.name).result()
    assert ended(first, 30).status == "Canceled"
    wait_for(lambda: not psutil.pid_exists(pid))
    assert not begun.exists()


def test_a_job_that_waited_for_a_build_runs_in_it(client, ended, details, tmp_path):
    dependency = unlike_others()
    environment = of_conda(tmp_path / "env", "python>=3.9", dependency)
    made = [
        client.jobs.create_or_update(
            command(command="true", environment=environment, compute="cpu", display_name=name)
        )
        for name in ("first", "second")
    ]
    assert {ended(job).status for job in made} == {"Completed"}
    logs = [requests.get(details(job)["logFiles"][LOG], timeout=30).text for job in made]
    assert sum("building with uv" in log for log in logs) == 1
    assert sum("taken from the cache" in log for log in logs) == 1


def test_versions_that_this_python_has_not_are_replaced_and_named(built, tmp_path):
    job, log, out = built(
        of_conda(tmp_path / "env", "python=3.7", "pip:\n  - markupsafe==2.0.0"),
        "python -c 'import markupsafe; print(markupsafe.__version__)'",
    )
    assert job.status == "Completed", log
    assert f"Python 3.7 is not to be had here: using {OWN}" in log
    assert f"Taken instead: markupsafe==2.0.0 → markupsafe=={out.strip()}" in log


def test_what_a_job_installs_into_the_workspaces_python_is_for_it_alone(built):
    line = "python -c 'import inflection; print(inflection.__file__)'"
    own = Environment(image=IMAGE)
    job, _, out = built(own, f"pip install inflection && {line}")
    assert job.status == "Completed", out
    assert "/packages/inflection/" in out.splitlines()[-1]
    job, *_ = built(own, line)
    assert job.status == "Failed"


@pytest.mark.slow
def test_an_old_mlflow_logs_to_the_workspace(built, tmp_path):
    """Its client speaks HTTP to a newer server, and azureml-mlflow brings it no other's files."""
    dependency = "pip:\n  - mlflow==2.9.2\n  - azureml-mlflow==1.55.0"
    line = "python -c \"import mlflow; mlflow.log_metric('m', 0.5); print(mlflow.__version__)\""
    job, log, out = built(of_conda(tmp_path / "env", "python>=3.9", dependency), line, 600)
    assert (job.status, out.splitlines()[-1]) == ("Completed", "2.9.2"), log + out
    assert "mlflow-skinny==2.9.2" in log
    import mlflow

    assert mlflow.get_run(job.name).data.metrics == {"m": 0.5}
