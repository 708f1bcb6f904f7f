"""Jobs that misbehave: each harms itself only, and leaves nothing behind."""

from __future__ import annotations

import time

import psutil
import pytest
from azure.ai.ml import command
from azure.ai.ml.entities import CommandJobLimits, Environment

from aml_magics.local import daemon


def job(line, **options):
    environment = Environment(image="none.invalid/none")
    return command(command=line, environment=environment, compute="cpu", **options)


@pytest.fixture
def log(client, tmp_path):
    """The log of a job, downloaded."""

    def call(done):
        client.jobs.download(done.name, download_path=tmp_path / done.name)
        return (tmp_path / done.name / "artifacts" / "user_logs" / "std_log.txt").read_bytes()

    return call


def gone(pid_file, seconds=10):
    """Whether a process has ended, and is no zombie either."""
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(int(pid_file.read_text())):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def begun(path):
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_job_leaves_running_ends_with_it(run, tmp_path):
    left = tmp_path / "left"
    assert run(job(f"sleep 600 & echo $! > {left}")).status == "Completed"
    assert gone(left)


def test_a_process_that_left_the_jobs_group_ends_with_it(run, tmp_path):
    left = tmp_path / "left"
    assert run(job(f"setsid sh -c 'echo $$ > {left}; exec sleep 600' &\nsleep 1")).status == (
        "Completed"
    )
    assert gone(left)


def test_a_job_that_ignores_sigterm_is_cancelled(client, ended, tmp_path):
    pid = tmp_path / "pid"
    made = client.jobs.create_or_update(
        job(f"trap '' TERM; echo $$ > {pid}; while true; do sleep 1; done")
    )
    begun(pid)
    client.jobs.begin_cancel(made.name).result()
    assert ended(made).status == "Canceled"
    assert gone(pid)


def test_a_job_may_tidy_up_when_it_is_cancelled(client, ended, tmp_path):
    pid, tidied = tmp_path / "pid", tmp_path / "tidied"
    made = client.jobs.create_or_update(
        job(
            f"trap 'sleep 0.5; echo yes > {tidied}; exit 1' TERM; echo $$ > {pid}; "
            "while true; do sleep 0.1; done"
        )
    )
    begun(pid)
    client.jobs.begin_cancel(made.name).result()
    assert ended(made).status == "Canceled"
    assert tidied.read_text() == "yes\n"


def test_a_limit_ends_the_whole_tree(run, why, tmp_path):
    left = tmp_path / "left"
    line = f"setsid sh -c 'echo $$ > {left}; exec sleep 600' & sleep 600"
    done = run(job(line, limits=CommandJobLimits(timeout=2)), 60)
    assert (done.status, "its limit of 2 seconds" in why(done)) == ("Failed", True)
    assert gone(left)


def test_a_job_that_removes_its_own_folder_has_its_exit_code(run):
    assert run(job('rm -rf "$(dirname "$PWD")"')).status == "Completed"


def test_bytes_that_are_no_text_are_kept(run, log, why):
    done = run(job(r"printf '\377\376\000\001bytes'; exit 3"))
    assert done.status == "Failed"
    assert log(done) == b"\xff\xfe\x00\x01bytes"
    assert "bytes" in why(done)


def test_a_million_lines_are_kept(run, log):
    lines = log(run(job("seq 1000000"))).splitlines()
    assert (len(lines), lines[-1]) == (1_000_000, b"1000000")


@pytest.mark.slow
def test_a_log_of_a_gigabyte_costs_the_daemon_no_memory(address, run, client):
    process = psutil.Process(daemon.find(address.home).pid)
    before = process.memory_info().rss
    done = run(job("head -c 1073741824 /dev/zero; echo; echo the end; exit 1"), 300)
    links = client.jobs._runs_operations.get_run_details(done.name).log_files
    assert "user_logs/std_log.txt" in links
    assert process.memory_info().rss - before < 64 << 20


def test_a_job_without_a_shell_command_that_exists_fails(run, why):
    done = run(job("no-such-program --at-all"))
    assert (done.status, "no-such-program" in why(done)) == ("Failed", True)


def test_metrics_of_a_job_that_died_are_kept(run, connection):
    from mlflow import MlflowClient

    line = (
        'curl -s --noproxy "*" -H "Authorization: Bearer $MLFLOW_TRACKING_TOKEN" '
        "-H 'Content-Type: application/json' "
        '-d "{\\"run_id\\": \\"$MLFLOW_RUN_ID\\", \\"key\\": \\"loss\\", \\"value\\": 0.5, '
        '\\"timestamp\\": 1, \\"step\\": 1}" '
        '"$MLFLOW_TRACKING_URI/api/2.0/mlflow/runs/log-metric"; kill -9 $$'
    )
    done = run(job(line))
    found = MlflowClient(connection.tracking_uri).get_run(done.name)
    assert (done.status, found.info.status) == ("Failed", "FAILED")
    assert found.data.metrics == {"loss": 0.5}
