"""One daemon per home: found, started once, stopped, and found again after a crash."""

import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from aml_magics.local import daemon, files


def get(url, token="", cafile=None):
    context = ssl.create_default_context(cafile=cafile) if cafile else None
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        return answer.status


def kill(address):
    process = psutil.Process(address.pid)
    process.kill()
    process.wait(30)


def test_a_home_without_a_daemon_has_no_address(home):
    assert daemon.find(home) is None
    assert daemon.stop(home) is False


def test_it_is_found_again_and_answers_at_both_ports(home):
    address = daemon.ensure(home)
    assert daemon.ensure(home) == daemon.find(home) == address
    assert get(f"{address.url}/healthz") == 200
    connection = daemon.door(address, "s", "g", "w")
    bundle = connection.environment["REQUESTS_CA_BUNDLE"]
    assert get(f"{address.secure_url}/healthz", cafile=bundle) == 200


def test_two_at_once_start_one(home):
    script = f"from aml_magics.local import daemon; print(daemon.ensure({str(home)!r}).pid)"

    def ensure(_):
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(ensure, range(3)))) == 1


def daemons(home):
    """Processes that serve a home, or try to."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"aml_magics.local", str(home)} <= set(process.info["cmdline"] or ())
    ]


def test_a_second_daemon_gives_way(home):
    address = daemon.ensure(home)
    command = [*daemon.SERVER, "--home", str(home)]
    subprocess.run(command, env=daemon.child_environment(), check=True, timeout=60)
    late = [process for process in daemons(home) if process.pid != address.pid]
    assert psutil.wait_procs(late, timeout=30)[1] == []
    assert daemon.find(home) == address


def test_after_a_kill_it_starts_with_the_same_ports_and_token(home):
    first = daemon.ensure(home)
    kill(first)
    assert daemon.find(home) is None
    second = daemon.ensure(home)
    assert second == first._replace(pid=second.pid)
    assert second.pid != first.pid


def test_a_stale_address_of_a_living_process_does_not_count(home):
    home.mkdir()
    address = daemon.Address(
        "http://127.0.0.1:9", "https://127.0.0.1:9", "t", os.getpid(), home, ""
    )
    daemon.write_address(address)
    assert daemon.find(home) is None
    with files.hold_lock(home / "daemon.lock"):
        assert daemon.find(home) == address
    assert daemon.find(home) is None


def test_a_taken_port_is_replaced(home):
    first = daemon.ensure(home)
    daemon.stop(home)
    with socket.create_server(("127.0.0.1", int(first.url.rpartition(":")[2]))):
        second = daemon.ensure(home)
    assert second.url != first.url
    assert second.secure_url == first.secure_url
    assert get(f"{second.url}/healthz") == 200


def test_it_is_nobodys_child_and_no_interrupt_ends_it(home):
    address = daemon.ensure(home)
    process = psutil.Process(address.pid)
    assert os.getsid(address.pid) != os.getsid(0)
    assert process.pid not in {child.pid for child in psutil.Process().children(recursive=True)}
    process.send_signal(signal.SIGINT)
    assert get(f"{address.url}/healthz") == 200


def test_stop_ends_the_process(home):
    process = psutil.Process(daemon.ensure(home).pid)
    assert daemon.stop(home) is True
    process.wait(30)
    assert daemon.find(home) is None


def test_it_stops_when_idle(home, monkeypatch):
    monkeypatch.setenv("AML_LOCAL_IDLE", "0.4")
    process = psutil.Process(daemon.ensure(home).pid)
    process.wait(30)
    assert daemon.find(home) is None


def test_what_it_keeps_is_for_its_user_only(home):
    daemon.ensure(home)
    daemon.door(daemon.find(home), "s", "g", "w")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for secret in (home / "daemon.json", home / "tls" / "ca.key"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_secrets_of_the_first_client_do_not_reach_it(home, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "s3cret")
    monkeypatch.setenv("SOME_PASSWORD", "s3cret")
    monkeypatch.setenv("SOME_SETTING", "kept")
    environment = psutil.Process(daemon.ensure(home).pid).environ()
    assert "s3cret" not in environment.values()
    assert environment["SOME_SETTING"] == "kept"


def test_a_start_that_fails_quotes_the_log(home, monkeypatch):
    monkeypatch.setattr(daemon, "SERVER", (sys.executable, "-c", "raise SystemExit('no room')"))
    with pytest.raises(daemon.DaemonError, match="did not start: no room") as failure:
        daemon.ensure(home)
    assert failure.value.hint == "aml-local logs"


def test_a_setting_that_makes_no_sense_is_named(home, monkeypatch):
    monkeypatch.setenv("AML_LOCAL_IDLE", "soon")
    with pytest.raises(daemon.DaemonError, match="'soon'"):
        daemon.ensure(home)


def test_a_home_that_is_no_folder_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(daemon.DaemonError, match="no workspace can live in"):
        daemon.ensure(tmp_path / "file")


def test_an_unreadable_address_is_written_anew(home):
    home.mkdir()
    (home / "daemon.json").write_text('{"url": "of another version"}')
    assert daemon.ensure(home) == daemon.find(home)


def test_a_workspace_connection_names_everything_a_client_needs(address, monkeypatch):
    monkeypatch.setenv("no_proxy", "example.com")
    one = daemon.door(address, "s", "g", "one")
    other = daemon.door(address, "s", "g", "other")
    assert one.cloud != other.cloud
    assert one.environment["NO_PROXY"] == one.environment["no_proxy"]
    assert one.environment["no_proxy"] == "example.com,127.0.0.1,localhost"
    assert one.tracking_uri == one.environment["MLFLOW_TRACKING_URI"]
    assert one.tracking_uri.endswith("/workspaces/one")
    assert set(one.cloud_metadata) == {
        "azure_portal",
        "resource_manager",
        "active_directory",
        "aml_resource_id",
        "storage_endpoint",
        "registry_discovery_endpoint",
    }


def test_a_bundle_keeps_what_was_trusted(address, tmp_path, monkeypatch):
    company = tmp_path / "company.pem"
    company.write_text("# certificates of a company\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(company))
    bundle = daemon.door(address, "s", "g", "w").environment["REQUESTS_CA_BUNDLE"]
    authority = (address.home / "tls" / "ca.pem").read_text()
    assert Path(bundle).read_text() == company.read_text() + authority
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)  # within an environment of ours: no growth
    assert daemon.door(address, "s", "g", "w").environment["REQUESTS_CA_BUNDLE"] == bundle
