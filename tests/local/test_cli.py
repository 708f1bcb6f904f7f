"""``aml-local`` as a person types it."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from aml_magics.local import daemon


def test_start_status_stop(aml_local, home):
    assert aml_local("status", home=home).returncode == 3
    assert "http://127.0.0.1:" in aml_local("start", home=home).stdout
    shown = aml_local("status", home=home)
    assert shown.returncode == 0
    address = daemon.find(home)
    facts = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert (facts["address"], facts["pid"]) == (address.url, str(address.pid))
    assert (facts["home"], facts["health"], facts["jobs"]) == (str(home), "ok", "0")
    assert aml_local("stop", home=home).stdout == "stopped\n"
    assert aml_local("stop", home=home).stdout == "not running\n"


def test_run_has_the_exit_code_of_its_command(aml_local):
    assert aml_local("run", "--", sys.executable, "-c", "raise SystemExit(7)").returncode == 7
    assert aml_local("run", sys.executable, "-c", "print('x')").stdout == "x\n"
    assert aml_local("run", "no-such-program").returncode == 127


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "no command to run"),
        (["logs", "--home", "/nonexistent"], "no log at"),
        (["reset"], "this deletes every job"),
    ],
)
def test_a_mistake_is_two_lines_with_what_to_type(aml_local, arguments, message):
    failed = aml_local(*arguments)
    assert failed.returncode == 1
    first, second = failed.stderr.splitlines()
    assert message in first
    assert second.startswith("hint: ")


def test_env_in_a_shell_does_what_run_does(aml_local):
    exports = aml_local("env", AZURE_CLIENT_SECRET="mine").stdout
    command = f"{exports}\n{shlex.quote(sys.executable)} -c 'import os; print(dict(os.environ))'"
    shell = {**os.environ, "AZURE_CLIENT_SECRET": "mine"}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, env=shell
    )
    assert "AZURE_CLIENT_SECRET" not in done.stdout
    assert "IDENTITY_ENDPOINT" in done.stdout


def test_logs_can_be_followed(address):
    command = [sys.executable, "-u", "-m", "aml_magics.local.cli", "logs", "-f"]
    log = address.home / "daemon.log"
    with subprocess.Popen(
        [*command, "--home", str(address.home)], stdout=subprocess.PIPE, text=True
    ) as follower:
        with log.open("a") as file:
            file.write("a line written now\n")
        try:
            assert any(line == "a line written now\n" for line in follower.stdout)
            follower.send_signal(signal.SIGINT)
            assert follower.wait(30) == 130
        finally:
            follower.kill()


def test_reset_deletes_the_home(aml_local, home):
    aml_local("start", home=home)
    assert "deleted" in aml_local("reset", "--yes", home=home).stdout
    assert not home.exists()
    assert "nothing to delete" in aml_local("reset", "--yes", home=home).stdout


def test_environments_that_are_not_used_are_removed(aml_local, home):
    for name, days in (("new", 0), ("old", 40)):
        place = home / "environments" / name / "build"
        place.mkdir(parents=True)
        (place / "requirements.txt").write_text("numpy==2\npip\n")
        (place / "big").write_bytes(bytes(3 << 20))
        mark = place.with_name("complete")
        mark.write_text("build")
        used = time.time() - days * 86400 - 60
        os.utime(mark, (used, used))
    (home / "environments" / "half" / "build").mkdir(parents=True)
    lines = aml_local("environments", home=home).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["new", "0", "days", "3", "MB", "numpy==2,", "pip"],
        ["old", "40", "days", "3", "MB", "numpy==2,", "pip"],
    ]
    removed = aml_local("environments", "--remove", "30", home=home)
    assert removed.stdout == "removed 1 of 2, 3 MB\n"
    assert {place.name for place in (home / "environments").iterdir()} == {"new", "half"}
