"""The process that serves a home: find it, start it, stop it, and how clients reach it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import NamedTuple

from aml_magics.local import files

DEFAULT_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
DEFAULT_RESOURCE_GROUP = "local"
DEFAULT_WORKSPACE = "local"

SERVER = (sys.executable, "-P", "-m", "aml_magics.local")
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
CLIENT_TOKEN_SECONDS = 365 * 86400.0  # longer than a kernel lives
LEAST_FREE_BYTES = 1 << 20
LOG_LIMIT_BYTES = 10_000_000

# A daemon serves every later client of its home and starts their jobs, so what the first client
# keeps in its environment about clouds and secrets is none of its business.
PRIVATE = re.compile(
    r"^(AZURE|AZUREML|MLFLOW|ARM|IDENTITY|MSI|AWS|GOOGLE|GITHUB|ACTIONS)_"
    r"|SECRET|TOKEN(?!IZERS)|PASSWORD|PASSWD|CREDENTIAL|CONNECTION_STRING|API_?KEY|ACCESS_?KEY",
    re.IGNORECASE,
)


class DaemonError(Exception):
    """The local workspace did not start or stop; ``hint`` says what to type next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Address(NamedTuple):
    """A running daemon.

    ``url`` is ``http://127.0.0.1:PORT`` (MLflow, scoring, pages), ``secure_url`` the same over
    TLS (ARM, blobs, history: what the SDK speaks), ``token`` the secret that opens both.
    """

    url: str
    secure_url: str
    token: str
    pid: int
    home: Path
    version: str


class Connection(NamedTuple):
    """What a client needs to work in one workspace; ``environment`` holds variables to set."""

    cloud: str
    cloud_metadata: dict[str, str]
    environment: dict[str, str]
    token: str
    tracking_uri: str


def home_folder(home: Path | None = None) -> Path:
    """Absolute path of a home: as given, else ``AML_LOCAL_HOME``, else the user's data folder."""
    chosen = home or os.environ.get("AML_LOCAL_HOME")
    if not chosen:
        import platformdirs

        chosen = Path(platformdirs.user_data_dir("aml-magics")) / "local"
    return Path(chosen).expanduser().resolve()


def find(home: Path | None = None) -> Address | None:
    """Return the running daemon of a home, or None.

    The lock file names the living process and the address file who wrote it: a file left by a
    killed daemon never counts, whoever has its process id now.
    """
    folder = home_folder(home)
    holder = files.lock_holder(folder / "daemon.lock")
    address = read_address(folder)
    return address if address and holder == address.pid else None


def read_address(home: Path) -> Address | None:
    """Return the last address written in a home, whether or not that daemon still runs."""
    try:
        fields = json.loads((home / "daemon.json").read_bytes())
        return Address(**{**fields, "home": home})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):  # of another version
        return None


def write_address(address: Address) -> None:
    """Publish the address of this process in its home, readable by this user only."""
    fields = {**address._asdict(), "home": str(address.home)}
    files.write_atomically(address.home / "daemon.json", json.dumps(fields, indent=2).encode())


def ensure(home: Path | None = None) -> Address:
    """Return the daemon of a home, started when none runs.

    Raises: DaemonError: it did not start; the message quotes its log.
    """
    folder = home_folder(home)
    if address := find(folder):
        return address
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        reason = f"no workspace can live in {folder}: {exc.strerror}"
        raise DaemonError(reason, hint="set AML_LOCAL_HOME to a folder of yours") from exc
    with files.locked(folder / "start.lock"):
        return find(folder) or _start(folder)


def stop(home: Path | None = None) -> bool:
    """Stop the daemon of a home and wait for its end; False when nothing runs.

    Of one that was killed, its jobs and model servers are ended.

    Raises: DaemonError: it still runs, even after being killed.
    """
    folder = home_folder(home)
    address = find(folder)
    if not address:
        return _end_left(folder)
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(address.pid, signum)
        if _ended(folder, address.pid):
            return True
    raise DaemonError(f"process {address.pid} does not end", hint=f"kill -9 {address.pid}")


def _end_left(folder: Path) -> bool:
    """End what outlived a daemon, unless one is there again to take care of it."""
    from aml_magics.local import processes

    if not (folder / "start.lock").exists():
        return False
    with files.locked(folder / "start.lock"):
        return find(folder) is None and processes.end_below(folder) > 0


def door(address: Address, subscription: str, resource_group: str, workspace: str) -> Connection:
    """Describe the way to one workspace of a daemon; any names will do.

    The SDK remembers the metadata of a cloud by name for the life of a process, so the name is
    unique for this daemon and workspace.
    """
    from aml_magics.local import doors, identity, tls

    account = doors.account_name(subscription, resource_group, workspace)
    tracking_uri = doors.direct(address.url, address.secure_url).mlflow(
        workspace_id(subscription, resource_group, workspace)
    )
    cloud, metadata = doors.direct_cloud(address.url, address.secure_url, account)
    environment = {
        "AZUREML_CURRENT_CLOUD": cloud,
        # Importing the SDK already looks this cloud up, in child processes too.
        "ARM_CLOUD_METADATA_URL": f"{address.secure_url}/metadata/endpoints/{account}",
        "REQUESTS_CA_BUNDLE": str(tls.bundle(address.home)),
        **without_proxy(),
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_TRACKING_TOKEN": address.token,
    }
    token = identity.issue(address.secure_url, address.token, CLIENT_TOKEN_SECONDS, account)
    return Connection(cloud, metadata, environment, token, tracking_uri)


def workspace_id(subscription: str, resource_group: str, workspace: str) -> str:
    """ARM id of a workspace."""
    return (
        f"/subscriptions/{subscription}/resourceGroups/{resource_group}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"
    )


def without_proxy() -> dict[str, str]:
    """Return both spellings of ``NO_PROXY`` as they are set now, with the loopback hosts added."""
    set_now = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in set_now.split(",") if host]
    hosts += [host for host in ("127.0.0.1", "localhost") if host not in hosts]
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(hosts))


def child_environment() -> dict[str, str]:
    """Return the environment a daemon starts with: this one without secrets and cloud settings."""
    environment = {name: value for name, value in os.environ.items() if not PRIVATE.search(name)}
    root = str(Path(__file__).parents[2])
    if root != sysconfig.get_path("purelib"):  # a checkout, perhaps importable by cwd alone
        paths = [root, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return environment


def _start(folder: Path) -> Address:
    reader, writer = os.pipe()
    try:
        _spawn(folder, writer)
        os.close(writer)
        select.select([reader], [], [], START_TIMEOUT)  # the daemon writes, or its end closes it
    finally:
        os.close(reader)
    if address := find(folder):
        return address
    if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        reason = f"the local workspace did not start: no space left for {folder}"
        raise DaemonError(reason, hint="free some, or set AML_LOCAL_HOME to a folder elsewhere")
    lines = (folder / "daemon.log").read_text(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "it wrote no log"
    raise DaemonError(f"the local workspace did not start: {reason}", hint="aml-local logs")


def _spawn(folder: Path, ready: int) -> None:
    with _log_file(folder).open("ab") as log:
        # The first process forks the daemon and ends, so that no parent has to wait for it.
        subprocess.run(
            [*SERVER, "--home", str(folder), "--ready", str(ready)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(ready,),
            cwd=folder,
            env=child_environment(),
            start_new_session=True,
            check=False,
            timeout=START_TIMEOUT,
        )


def _log_file(folder: Path) -> Path:
    log = folder / "daemon.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(folder / "daemon.log.1")
    return log


def _ended(folder: Path, pid: int) -> bool:
    deadline = time.monotonic() + STOP_TIMEOUT
    while files.lock_holder(folder / "daemon.lock") == pid:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
