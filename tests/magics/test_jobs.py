"""Jobs, on the local workspace: created from cells and YAML, followed, listed, stopped."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from aml_magics.errors import Detached, JobFailed
from aml_magics.local import daemon
from tests.conftest import wait_until

YAML = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
command: >-
  echo C is ${{inputs.C}} and
  data is $(cat ${{inputs.data}})
environment: azureml://registries/azureml/environments/sklearn-1.5/labels/latest
inputs:
  C: 1
  data:
    type: uri_file
    path: data.csv
compute: azureml:cpu-cluster
experiment_name: from-yaml
"""


@pytest.fixture
def job_file(shell):
    """A job's YAML file and its data, in the current folder."""
    Path("data.csv").write_text("rows")
    Path("job.yml").write_text(YAML)
    return "job.yml"


def test_a_python_cell_is_a_job_whose_log_is_shown(aml, capsys):
    job = aml(
        "job -n first -i C=0.5 --experiment trees --display-name small --tags owner=me team.name=x",
        "print('C is', C, '${{inputs.x}} $HOME')",
    )

    assert capsys.readouterr() == ("C is 0.5 ${{inputs.x}} $HOME\n", "")
    assert (job.name, job.status) == ("first", "Completed")
    assert job.properties["experimentName"] == "trees"
    assert job.properties["displayName"] == "small"
    assert job.properties["tags"]["owner"] == "me"
    assert job.properties["tags"]["team.name"] == "x"
    assert len(job.properties["tags"]["cell_sha256"]) == 64
    assert job.url.startswith("http") and job.name in job.url


def test_a_name_is_used_once(aml, fails, capsys):
    aml("job -n once", "print(1)")
    error = fails("job -n once", "print(2)")

    assert "already" in str(error)
    assert capsys.readouterr().out == "1\n"


def test_a_jobs_files_are_downloaded(aml):
    aml("job -n files", "print('in the log')")
    aml("job download files -p here")

    (log,) = Path("here").rglob("std_log.txt")
    assert log.read_text() == "in the log\n"


def test_a_job_is_an_mlflow_run_of_its_name(aml):
    job = aml("job", "import mlflow\nmlflow.log_metric('loss', 0.25)\nmlflow.log_param('C', 1)")

    assert job.metrics == {"loss": 0.25}
    assert job.params == {"C": "1"}
    assert 0 < job.seconds < 60
    assert "metrics     loss=0.25" in repr(job)


def test_variables_of_a_cell_come_back(aml, shell):
    body = "score = {'auc': 0.9}\nshape = (2, 3)\nother = 1"
    job = aml("job -o score shape --as job", body)

    assert shell.user_ns["score"] == {"auc": 0.9}
    assert shell.user_ns["shape"] == (2, 3)
    assert "other" not in shell.user_ns
    assert shell.user_ns["job"] is job


def test_variables_of_the_notebook_go_to_the_cell(aml, shell, capsys):
    import pandas as pd

    shell.user_ns["table"] = pd.DataFrame({"x": [1, 2]})
    aml("job -i table", "print(table.x.sum())")

    assert capsys.readouterr().out == "3\n"


def test_a_yaml_cell_is_the_job_it_describes(aml, job_file, capsys):
    job = aml("job -i C=3", YAML)

    assert capsys.readouterr().out == "C is 3 and data is rows\n"
    assert job.properties["experimentName"] == "from-yaml"


def test_set_changes_a_file_and_stream_follows_it(aml, job_file, capsys):
    job = aml(f"job create -f {job_file} --set inputs.C=0.1 tags.a=b --stream")

    assert capsys.readouterr().out == "C is 0.1 and data is rows\n"
    assert job.properties["tags"]["a"] == "b"


def test_a_file_is_not_waited_for_unless_asked(aml, job_file, capsys):
    job = aml(f"job create -f {job_file}")
    assert capsys.readouterr().out == ""

    assert job.wait().status == "Completed"
    assert job.logs() == "C is 1 and data is rows\n"


def test_jobs_are_listed_shown_archived_and_restored(alone):
    for name in ("one", "two"):
        alone(f"job -n {name}", "pass")
    assert list(alone("job list")["name"]) == ["two", "one"]
    assert list(alone("job list -r 1")["name"]) == ["two"]

    alone("job archive one")
    assert list(alone("job list")["name"]) == ["two"]
    assert list(alone("job list --archived-only")["name"]) == ["one"]
    alone("job restore one")
    assert sorted(alone("job list --query [].name")) == ["one", "two"]


def test_a_job_file_is_validated(aml, job_file):
    assert "valid" in repr(aml(f"job validate -f {job_file}"))


def test_a_job_that_fails_raises_with_the_end_of_its_log(aml, shell, fails):
    error = fails("job -n bad --as job", "print('so far')\nraise ValueError('no such column')")

    assert isinstance(error, JobFailed)
    assert "ValueError: no such column" in "\n".join(error._render_traceback_())
    assert "%aml job stream -n bad" in error.hint
    assert shell.user_ns["job"].status == "Failed"


def test_a_job_is_asked_about_while_another_workspace_is_current(aml, offline):
    job = aml("job --no-wait", "print('here')")
    offline("logout")

    assert job.wait().logs() == "here\n"


def test_a_job_is_cancelled(aml, shell):
    job = aml("job --no-wait", "import time\nprint('began', flush=True)\ntime.sleep(600)")
    wait_until(lambda: "began" in job.logs())
    shell.user_ns["job"] = job
    aml("job cancel $job")

    with pytest.raises(JobFailed, match="canceled"):
        job.wait()


def test_an_interrupt_detaches_and_the_job_goes_on(aml, monkeypatch):
    def interrupt(_text):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(Detached) as caught:
        patch.setattr("aml_magics.magic._tell", interrupt)
        aml("job -n slow", "import time; print('began'); time.sleep(1)")
    assert "%aml job stream -n slow" in caught.value.hint
    assert "%aml job cancel -n slow" in caught.value.hint

    assert caught.value.result.wait().status == "Completed"


def test_a_lost_connection_is_found_again(aml, monkeypatch):
    told: list[str] = []
    restarting = threading.Thread(target=daemon.ensure)

    def tell(text):
        told.append(text)
        if len(told) == 1:
            os.kill(daemon.find().pid, signal.SIGKILL)
        elif text == "connection lost, trying again …\n":
            restarting.start()

    monkeypatch.setattr("aml_magics.magic._tell", tell)
    done = aml("job", "import time\nprint('a')\ntime.sleep(4)\nprint('b')")
    restarting.join()

    assert done.status == "Completed"
    assert (told[0], told[-1]) == ("a\n", "b\n")


def test_the_notebooks_own_mlflow_talks_to_the_workspace(aml):
    import mlflow

    aml("job -n run-1", "import mlflow\nmlflow.log_metric('a', 1)")
    mlflow.set_tracking_uri(None)

    assert mlflow.get_run("run-1").data.metrics == {"a": 1.0}
