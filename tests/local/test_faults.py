"""The daemon is killed or stopped for real while a job runs; the job is neither lost nor twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest
import requests

from aml_magics.local import daemon, processes, warm
from aml_magics.local.daemon import DEFAULT_RESOURCE_GROUP, DEFAULT_SUBSCRIPTION

SCOPE = (DEFAULT_SUBSCRIPTION, DEFAULT_RESOURCE_GROUP, "faults")


class Workspace:
    """Just enough of ARM, without the SDK: a daemon that is gone must not be waited for."""

    def __init__(self, home):
        self.home = home
        self.address = daemon.ensure(home)

    def ask(self, method, path, body=None):
        url = f"{self.address.url}{daemon.workspace_id(*SCOPE)}/{path}?api-version=2024-01-01"
        headers = {"Authorization": f"Bearer {self.address.token}"}
        answer = requests.request(method, url, json=body, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def submit(self, name, command, **fields):
        properties = {
            "jobType": "Command",
            "command": command,
            "experimentName": "faults",
            **fields,
        }
        self.ask("PUT", f"jobs/{name}", {"properties": properties})

    def job(self, name):
        return self.ask("GET", f"jobs/{name}")["properties"]

    def kill(self):
        os.kill(self.address.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(self.address.pid)], timeout=10)

    def restart(self):
        self.address = daemon.ensure(self.home)

    def until(self, name, *statuses, timeout=30.0):
        deadline = time.monotonic() + timeout
        while (status := self.job(name)["status"]) not in statuses:
            assert time.monotonic() < deadline, status
            time.sleep(0.02)
        return status


@pytest.fixture
def workspace(home):
    return Workspace(home)


def log_of(workspace, name):
    folders = (workspace.home / "storage").rglob(f"dcid.{name}/user_logs/std_log.txt")
    return next(folders).read_text()


def wait_for(path, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@pytest.mark.parametrize(("code", "status"), [(0, "Completed"), (4, "Failed")])
def test_a_job_outlives_a_killed_daemon(workspace, tmp_path, code, status):
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"touch '{begun}'; while [ ! -e '{go}' ]; do sleep 0.05; done"
    workspace.submit("survivor", f"echo one; {wait}; echo two; exit {code}")
    wait_for(begun)
    workspace.kill()
    workspace.restart()
    assert workspace.job("survivor")["status"] == "Running"
    go.touch()
    assert workspace.until("survivor", "Completed", "Failed") == status
    assert workspace.job("survivor")["properties"]["ExitCode"] == str(code)
    assert log_of(workspace, "survivor") == "one\ntwo\n"


def test_a_job_that_ended_while_no_daemon_ran_has_its_end(workspace, tmp_path):
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"touch '{begun}'; while [ ! -e '{go}' ]; do sleep 0.05; done"
    workspace.submit("alone", f"{wait}; exit 5")
    wait_for(begun)
    workspace.kill()
    go.touch()
    exit_file = next((workspace.home / "jobs").rglob("alone")).with_name("alone.exit")
    wait_for(exit_file)
    workspace.restart()
    assert workspace.until("alone", "Completed", "Failed") == "Failed"
    assert workspace.job("alone")["properties"]["ExitCode"] == "5"


def test_a_job_killed_with_its_daemon_fails_with_a_reason(workspace, tmp_path):
    begun = tmp_path / "begun"
    workspace.submit(
        "victim", f"echo $$ > '{begun}.partial'; mv '{begun}.partial' '{begun}'; sleep 600"
    )
    wait_for(begun)
    workspace.kill()
    os.killpg(os.getpgid(int(begun.read_text())), signal.SIGKILL)
    workspace.restart()
    assert workspace.until("victim", "Completed", "Failed") == "Failed"


def test_a_limit_holds_over_the_deaths_of_daemons(workspace, tmp_path):
    begun = tmp_path / "begun"
    command = f"touch '{begun}'; sleep 600"
    workspace.submit("limited", command, limits={"jobLimitsType": "Command", "timeout": "PT1H"})
    wait_for(begun)
    workspace.kill()
    with sqlite3.connect(workspace.home / "workspace.db") as database:  # as if it had run for long
        body = "json_set(body, '$.properties.properties.StartTimeUtc', '2020-01-01T00:00:00+00:00')"
        database.execute(f"UPDATE resources SET body = {body} WHERE id LIKE '%/jobs/limited'")
    workspace.restart()
    assert workspace.until("limited", "Completed", "Failed") == "Failed"


def test_queued_jobs_are_run_by_the_next_daemon_once(workspace, tmp_path):
    slots = os.cpu_count() or 1
    blockers = [f"blocker{number}" for number in range(slots)]
    for name in blockers:
        workspace.submit(name, f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done")
    workspace.submit("queued", f"echo run >> '{tmp_path}/runs'")
    assert workspace.job("queued")["status"] == "Queued"
    workspace.kill()
    workspace.restart()
    (tmp_path / "go").touch()
    assert workspace.until("queued", "Completed", "Failed") == "Completed"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_stopping_the_workspace_ends_its_jobs(workspace, tmp_path):
    begun = tmp_path / "begun"
    workspace.submit("running", f"echo $$ > '{begun}'; sleep 600")
    wait_for(begun)
    process = psutil.Process(int(begun.read_text()))
    assert daemon.stop(workspace.home)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    workspace.restart()
    assert workspace.job("running")["status"] == "Failed"


def test_a_model_may_come_before_mlflow_is_loaded(workspace):
    """It needs MLflow, whose loading must not wait for the store that the model is written to."""
    uri = "azureml://datastores/workspaceblobstore/paths/x"
    place = workspace.ask("GET", "datastores/workspaceblobstore")["properties"]
    path = f"blob/{place['accountName']}/{place['containerName']}/x"
    headers = {"Authorization": f"Bearer {workspace.address.token}"}
    requests.put(f"{workspace.address.url}/{path}", b"x", headers=headers, timeout=30)
    workspace.kill()
    workspace.restart()
    body = {"properties": {"modelUri": uri, "modelType": "custom_model"}}
    assert workspace.ask("PUT", "models/m/versions/1", body)["name"] == "1"


def test_a_process_that_has_the_id_of_an_old_one_is_left_alone():
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        processes.Handle(other.pid, started=1.0).kill()
        assert other.poll() is None
        other.kill()


def test_files_are_the_users_alone_but_those_of_jobs_are_as_the_user_has_them(workspace, tmp_path):
    workspace.submit("maker", f"touch '{tmp_path}/made'; umask")
    workspace.until("maker", "Completed")
    mask = os.umask(0)
    os.umask(mask)
    assert log_of(workspace, "maker").strip() == f"{mask:04o}"
    assert (workspace.home / "workspace.db").stat().st_mode & 0o077 == 0


def schedule(workspace, **trigger):
    """Put a schedule that adds a line to the job's log, and return its ARM id."""
    trigger = {"triggerType": "Recurrence", "frequency": "Hour", "interval": 1, **trigger}
    job = {"jobType": "Command", "command": "echo ran"}
    action = {"actionType": "CreateJob", "jobDefinition": job}
    properties = {"trigger": trigger, "action": action}
    workspace.ask("PUT", "schedules/hourly", {"properties": properties})
    return f"{daemon.workspace_id(*SCOPE)}/schedules/hourly"


def scheduled(workspace, count=1):
    """The jobs that the schedule has made, once there are as many."""
    deadline = time.monotonic() + 30
    while len(jobs := workspace.ask("GET", "jobs")["value"]) < count:
        assert time.monotonic() < deadline, jobs
        time.sleep(0.05)
    return [job["properties"]["displayName"] for job in jobs]


def fires_at(workspace, id_, moment=None):
    """When a schedule fires next; with a moment, as if the daemon had been away since then."""
    with contextlib.closing(sqlite3.connect(workspace.home / "workspace.db")) as db, db:
        if moment:
            text = json.dumps(moment.isoformat())
            db.execute("UPDATE notes SET value = ? WHERE id = ? AND key = 'next'", (text, id_))
        query = "SELECT value FROM notes WHERE id = ? AND key = 'next'"
        ((text,),) = db.execute(query, (id_,)).fetchall()
    return datetime.fromisoformat(json.loads(text))


def test_times_that_passed_without_a_daemon_are_made_up_for_once(workspace):
    start = (datetime.now(UTC) - timedelta(hours=5)).replace(microsecond=0)
    id_ = schedule(workspace, startTime=start.isoformat())
    workspace.kill()
    missed = start + timedelta(hours=2)
    fires_at(workspace, id_, missed)
    workspace.restart()
    assert scheduled(workspace) == [f"hourly-{missed:%Y%m%dT%H%M%SZ}"]
    deadline = time.monotonic() + 30
    while fires_at(workspace, id_) != start + timedelta(hours=6):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(scheduled(workspace)) == 1


def test_a_time_whose_job_was_made_does_not_fire_again(workspace):
    id_ = schedule(workspace)
    (made,) = scheduled(workspace)
    moment = datetime.strptime(made, "hourly-%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    workspace.kill()  # as if between the job and the note of the next time
    fires_at(workspace, id_, moment)
    workspace.restart()
    deadline = time.monotonic() + 30
    while fires_at(workspace, id_) == moment:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert scheduled(workspace) == [made]


def test_a_daemon_with_an_enabled_schedule_does_not_stop_when_idle(home, monkeypatch):
    monkeypatch.setenv("AML_LOCAL_IDLE", "0.4")
    workspace = Workspace(home)
    far = {"startTime": "2099-01-01T00:00:00"}
    schedule(workspace, **far)
    process = psutil.Process(workspace.address.pid)
    with pytest.raises(psutil.TimeoutExpired):
        process.wait(3)
    off = workspace.ask("GET", "schedules/hourly")["properties"]
    workspace.ask("PUT", "schedules/hourly", {"properties": {**off, "isEnabled": False}})
    process.wait(30)


SERVER = str(warm.SERVER)
FORKED = """import numpy
import os, sys, time

if not os.fork():  # one that leaves the process group and would outlive the job
    os.setsid()
    time.sleep(600)
open(sys.argv[1], "w").write(str(os.getpid()))
while not os.path.exists(sys.argv[2]):
    time.sleep(0.02)
print("two")
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def forked(workspace, tmp_path):
    """Submit a job that a fork server begins; returns its process, and what lets it end."""

    def call(name, code=0):
        script, begun, go = tmp_path / "script.py", tmp_path / f"{name}-begun", tmp_path / name
        script.write_text(FORKED)
        workspace.submit(name, f"python {script} {begun} {go} {code}")
        wait_for(begun, 60)
        while not (pid := begun.read_text()):
            time.sleep(0.01)
        return psutil.Process(int(pid)), go

    return call


def exit_file_of(process):
    with contextlib.suppress(psutil.Error):
        return process.environ().get("AML_EXIT", "")
    return ""


def servers(workspace):
    """Fork servers of a daemon."""
    children = psutil.Process(workspace.address.pid).children()
    return [process for process in children if SERVER in process.cmdline()]


def test_a_forked_job_outlives_a_killed_daemon_and_leaves_no_process(workspace, forked):
    process, go = forked("forked", code=4)
    [server] = servers(workspace)
    assert server in process.parents()  # a fork, not a new program
    strays = [p for p in psutil.process_iter() if exit_file_of(p).endswith("/forked.exit")]
    assert len(strays) == 3  # what leads the group, the job, and what it has forked
    workspace.kill()
    psutil.wait_procs([server], timeout=10)
    assert not server.is_running()
    workspace.restart()
    assert workspace.job("forked")["status"] == "Running"
    go.touch()
    assert workspace.until("forked", "Completed", "Failed") == "Failed"
    assert workspace.job("forked")["properties"]["ExitCode"] == "4"
    assert log_of(workspace, "forked") == "two\n"
    assert not [p for p in strays if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_fork_server_that_dies_is_replaced_and_its_jobs_go_on(workspace, forked):
    _, go = forked("one")
    [first] = servers(workspace)
    first.kill()
    _, other = forked("two")
    [second] = servers(workspace)
    assert first.pid != second.pid
    go.touch()
    other.touch()
    assert workspace.until("one", "Completed", "Failed") == "Completed"
    assert workspace.until("two", "Completed", "Failed") == "Completed"
    daemon.stop(workspace.home)
    assert not second.is_running()


def test_a_forked_job_is_cancelled_with_all_its_processes(workspace, forked):
    process, _ = forked("cancelled")
    workspace.ask("POST", "jobs/cancelled/cancel")
    assert workspace.until("cancelled", "Canceled", "Completed", "Failed") == "Canceled"
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_fork_servers_can_be_switched_off(home, tmp_path, monkeypatch):
    monkeypatch.setenv("AML_LOCAL_WARM", "0")
    script = tmp_path / "script.py"
    script.write_text("import numpy, sys\nprint(sys.orig_argv, open('/proc/self/cmdline').read())")
    workspace = Workspace(home)
    workspace.submit("plain", f"python {script}")
    workspace.until("plain", "Completed", "Failed", timeout=60)
    assert SERVER not in log_of(workspace, "plain")
    assert servers(workspace) == []


def test_an_environment_half_built_by_a_killed_daemon_is_built_again(workspace, tmp_path):
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = "while not os.path.exists(GO): time.sleep(0.05)"
    script = (
        f"import os, sys, time\nGO = {str(go)!r}\nopen({str(begun)!r}, 'a').write('x')\n{wait}\n"
    )
    (tmp_path / "slow").mkdir()
    setup = "from setuptools import setup\nsetup(name='slow', py_modules=[])\n"
    (tmp_path / "slow" / "setup.py").write_text(script + setup)
    conda = {"dependencies": ["python>=3.9", {"pip": [f"slow @ file://{tmp_path}/slow"]}]}
    environment = {"properties": {"image": "none.invalid/x", "condaFile": json.dumps(conda)}}
    workspace.ask("PUT", "environments/slow/versions/1", environment)
    workspace.submit("first", "python -m pip list", environmentId="azureml:slow:1")
    wait_for(begun, 90)
    builders = psutil.Process(workspace.address.pid).children(recursive=True)
    workspace.kill()
    begun.unlink()
    workspace.restart()
    wait_for(begun, 90)  # the same job builds it anew
    assert not [one for one in builders if one.is_running() and one.status() != "zombie"]
    go.touch()
    assert workspace.until("first", "Completed", "Failed", timeout=120) == "Completed"
    assert "slow" in log_of(workspace, "first")
    (folder,) = (workspace.home / "environments").glob("*/complete")
    assert len(list(folder.parent.iterdir())) == 2  # one build, and the file that names it
