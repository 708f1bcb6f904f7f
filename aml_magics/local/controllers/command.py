"""One command job: its folder, its environment and its process, from queued to ended."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import isodate

from aml_magics.local import environments, processes, uris
from aml_magics.local.store import Body, now
from aml_magics.local.wire import ArmError, Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local

TERMINAL = ("Completed", "Failed", "Canceled")
BUILD_LOG = "azureml-logs/20_image_build_log.txt"
USER_LOG = "user_logs/std_log.txt"
LAST_LINES = 10

# What notebooks and shells set for themselves: a job must not see from where the daemon was begun.
_NOT_FOR_JOBS = re.compile(
    r"(AML_LOCAL|AZURE|AZUREML|MLFLOW|MSI|IDENTITY|JPY|KERNEL|PYDEVD|VSCODE|CONDA|UV)_.*"
    r"|MPLBACKEND|PYTHONPATH|PYTHONHOME|PYTHONSTARTUP|VIRTUAL_ENV|CLICOLOR.*|PAGER|GIT_PAGER"
)


class Ended(Exception):
    """A job's way out; `status` is what it ends in."""

    status = "Completed"


class Failed(Ended):
    """Why a job failed, in the words its user reads."""

    status = "Failed"


class Canceled(Ended):
    """The job was cancelled."""

    status = "Canceled"


class Job(NamedTuple):
    """Which job."""

    ws: Workspace
    name: str

    @property
    def id(self) -> str:
        return f"{self.ws.id}/jobs/{self.name}"


class Run:
    """A job under way; call it to see it through, in a thread of its own."""

    def __init__(self, local: Local, job: Job) -> None:
        self.local, self.job = local, job
        self._handle: processes.Handle | None = None
        self._reason: Ended | None = None
        self._lock = threading.Lock()
        folder = local.home / "jobs" / job.ws.account / job.name
        self._exit_file = folder / "exit"
        self._folder = folder
        self._artifacts = uris.artifacts(local, job.ws, job.name)

    def __call__(self) -> None:
        try:
            if not self._adopt():
                self._launch()
            self._follow()
        except Ended as way:
            self.end(way)
        except environments.BuildFailed as exc:
            self.end(Failed(f"The environment could not be built. {exc}\n{self._tail(BUILD_LOG)}"))
        except ArmError as exc:
            self.end(Failed(str(exc)))

    def stop(self, reason: Ended) -> None:
        """End the job with `reason`, whatever step it is at."""
        with self._lock:
            self._reason = self._reason or reason
            handle = self._handle
        if handle:
            handle.kill()

    def status(self, status: str, **properties: str) -> None:
        def change(job: Body) -> None:
            if job["status"] in TERMINAL:
                return
            job["status"] = status
            job["properties"] = {**(job.get("properties") or {}), **properties}

        self.local.store.update(self.job.id, change)

    def end(self, way: Ended) -> None:
        """Write down how the job ended: its run first, so that who sees the end sees it whole."""
        if way.status == "Failed":
            error = {"code": "UserError", "message": str(way)}
            self.local.store.note(self.job.id, "error", error)
        self.local.mlflow.end_run(self.job.ws, self.job.name, way.status)
        self.status(way.status, EndTimeUtc=now())
        _link_of(self._folder).unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    # Steps

    def _adopt(self) -> bool:
        """Follow a process that an earlier daemon started, if there was one."""
        noted = self.local.store.noted(self.job.id, "process")
        if noted:
            self._handle = processes.Handle(*noted)
        return bool(noted)

    def _launch(self) -> None:
        self.status("Preparing")
        self._check()
        shutil.rmtree(self._folder, ignore_errors=True)
        row = self.local.store.get(self.job.id)
        if row is None:
            raise Canceled
        root = _root(self._folder)
        for log in (USER_LOG, BUILD_LOG):
            (self._artifacts / log).parent.mkdir(parents=True, exist_ok=True)
        (self._artifacts / USER_LOG).touch()
        python = self._interpreter(row.properties)
        cwd = self._working_directory(root, row.properties)
        values = self._values(root, row.properties)
        script = root / "command.sh"
        script.write_text(_rendered(row.properties["command"], values) + "\n", "utf-8")
        environment = self._environment(row.properties, python, values)
        with self._lock:
            self._check()
            self._handle = processes.start(
                [shutil.which("bash") or "/bin/sh", str(script)],
                cwd=cwd,
                env=environment,
                log=self._artifacts / USER_LOG,
                exit_file=self._exit_file,
            )
        self.local.store.note(self.job.id, "process", list(self._handle))
        self.status("Running", StartTimeUtc=now())

    def _check(self) -> None:
        if self._reason:
            raise self._reason

    def _follow(self) -> None:
        handle, timeout = self._handle, self._timeout()
        assert handle is not None  # noqa: S101 (launched or adopted)
        in_time = handle.wait(timeout)
        handle.kill()  # what the command left running in its process group, or all of it
        processes.reap(handle)
        self._check()
        if not in_time:
            raise Failed(f"The job ran into its limit of {timeout:.0f} seconds.")
        code = processes.exit_code(self._exit_file)
        self.status("Finalizing", **({} if code is None else {"ExitCode": str(code)}))
        self._keep_outputs()
        raise self._outcome(code)

    def _outcome(self, code: int | None) -> Ended:
        if code is None:
            return Failed(f"The process of the job was killed.\n{self._tail(USER_LOG)}")
        if code == 0:
            return Ended()
        return Failed(
            f"Execution failed. The command exited with status code {code}. "
            f"The last lines of '{USER_LOG}':\n{self._tail(USER_LOG)}"
        )

    def _tail(self, log: str) -> str:
        path = self._artifacts / log
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-LAST_LINES:])

    # What the process is given

    def _interpreter(self, job: Body) -> Path:
        log = self._artifacts / BUILD_LOG
        id_ = (job.get("environmentId") or "").removeprefix("azureml:")
        row = self.local.store.get(id_)

        def say(line: str) -> None:
            with log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

        def run(command: list[str]) -> int:
            return self._build_step(command, log)

        if id_ and row is None:
            say(f"Environment {id_.rpartition('/environments/')[2]} is not of this workspace.")
        return environments.interpreter(self.local, row.properties if row else None, say, run)

    def _build_step(self, command: list[str], log: Path) -> int:
        exit_file = self._folder / "build-exit"
        exit_file.unlink(missing_ok=True)
        env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        handle = processes.start(command, cwd=self._folder, env=env, log=log, exit_file=exit_file)
        while not handle.wait(0.2):
            if self._reason:
                handle.kill()
        processes.reap(handle)
        self._check()
        code = processes.exit_code(exit_file)
        return 1 if code is None else code

    def _working_directory(self, root: Path, job: Body) -> Path:
        """A writable copy of the code; `outputs` and `logs` in it lead to the run's artifacts."""
        cwd = root / "wd"
        if code := job.get("codeId"):
            source = uris.local_path(self.local, self.job.ws, code.removeprefix("azureml:"))
            shutil.copytree(source, cwd, copy_function=shutil.copyfile, symlinks=False)
        cwd.mkdir(exist_ok=True)
        for name in ("outputs", "logs"):
            if not (cwd / name).exists():
                (self._artifacts / name).mkdir(exist_ok=True)
                (cwd / name).symlink_to(self._artifacts / name)
        return cwd

    def _values(self, root: Path, job: Body) -> dict[str, str]:
        """What `${{inputs.…}}` and `${{outputs.…}}` stand for."""
        values = {}
        for name, given in (job.get("inputs") or {}).items():
            if given:
                values[f"inputs.{name}"] = self._input(root / "inputs" / name, given)
        for name, given in (job.get("outputs") or {}).items():
            values[f"outputs.{name}"] = self._output(root / "outputs" / name, given)
        return values

    def _input(self, place: Path, given: Body) -> str:
        if given["jobInputType"] == "literal":
            return str(given["value"])
        path = uris.local_path(self.local, self.job.ws, given["uri"])
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            place.mkdir()
            place = place / path.name
        place.symlink_to(path)
        return str(place)

    def _output(self, place: Path, given: Body) -> str:
        path = uris.destination(self.local, self.job.ws, given["uri"])
        place.parent.mkdir(parents=True, exist_ok=True)
        if given["jobOutputType"] == "uri_file":
            path.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.parent)
            return str(place / path.name)
        path.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
        return str(place)

    def _environment(self, job: Body, python: Path, values: dict[str, str]) -> dict[str, str]:
        ws, name, url = self.job.ws, self.job.name, self.local.address.url
        kept = {k: v for k, v in os.environ.items() if not _NOT_FOR_JOBS.fullmatch(k)}
        own = {
            "PATH": f"{python.parent}{os.pathsep}{kept.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "MPLBACKEND": "Agg",
            "MLFLOW_TRACKING_URI": f"{url}/mlflow/v1.0{ws.id}",
            "MLFLOW_TRACKING_TOKEN": self.local.address.token,
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the log is the command's own
            "MLFLOW_RUN_ID": name,
            "MLFLOW_EXPERIMENT_NAME": job["experimentName"],
            "MLFLOW_EXPERIMENT_ID": self.local.store.noted(self.job.id, "experiment"),
            "AZUREML_RUN_ID": name,
            "AZUREML_ROOT_RUN_ID": name,
            "AZUREML_EXPERIMENT_NAME": job["experimentName"],
            "AZUREML_ARM_SUBSCRIPTION": ws.subscription,
            "AZUREML_ARM_RESOURCEGROUP": ws.resource_group,
            "AZUREML_ARM_WORKSPACE_NAME": ws.name,
            "AZUREML_ARM_PROJECT_NAME": job["experimentName"],
        }
        named = {f"AZURE_ML_{key.replace('s.', '_', 1).upper()}": v for key, v in values.items()}
        asked = job.get("environmentVariables") or {}
        return {**kept, **own, **named, **{k: _rendered(str(v), values) for k, v in asked.items()}}

    def _timeout(self) -> float | None:
        row = self.local.store.get(self.job.id)
        limit = ((row.properties.get("limits") or {}) if row else {}).get("timeout")
        return isodate.parse_duration(limit).total_seconds() if limit else None

    def _keep_outputs(self) -> None:
        """Snapshots may bring folders named like the linked ones: what is in those is kept too."""
        for name in ("outputs", "logs"):
            folder = self._folder / "wd" / name
            if folder.is_dir() and not folder.is_symlink():
                shutil.copytree(folder, self._artifacts / name, dirs_exist_ok=True)


def _root(folder: Path) -> Path:
    """The job's folder under a name without spaces: commands are written for /mnt/azureml/…"""
    folder.mkdir(parents=True)
    if not re.search(r"\s", str(folder)):
        return folder
    link = _link_of(folder)
    link.parent.mkdir(mode=0o700, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    return link


def _link_of(folder: Path) -> Path:
    digest = sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"aml-local-{os.getuid()}" / digest


_EXPRESSION = re.compile(r"\$\{\{\s*([\w.\-]+)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def _rendered(text: str, values: dict[str, Any]) -> str:
    """Fill in `${{inputs.x}}`; `$[[…]]` goes when an input in it was not given.

    Raises: Failed: a name is unknown.
    """

    def optional(match: re.Match[str]) -> str:
        names = _EXPRESSION.findall(match[1])
        return match[1] if all(name in values for name in names) else ""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise Failed(f"The command asks for {match[0]}, which the job does not have.")
        return str(values[match[1]])

    return _EXPRESSION.sub(value, _OPTIONAL.sub(optional, text))
