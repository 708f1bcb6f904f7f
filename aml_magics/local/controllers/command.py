"""A job that is one command: its folder, its environment and its process, from queued to ended."""

from __future__ import annotations

import os
import shlex
import shutil
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import isodate

from aml_magics.local import environments, outputs, processes, warm
from aml_magics.local.controllers import distribution, launch, services
from aml_magics.local.controllers.kinds import AS_COMMAND
from aml_magics.local.controllers.run import BUILD_LOG, Ended, Failed, Job, Run
from aml_magics.local.store import Body, now

if TYPE_CHECKING:
    from aml_magics.local.app import Local

USER_LOG = "user_logs/std_log.txt"


class CommandRun(Run):
    """A command under way: its process outlives the daemon, and the next one follows it on."""

    def __init__(self, local: Local, job: Job) -> None:
        super().__init__(local, job)
        self._handle: processes.Handle | None = None
        self._lock = threading.Lock()
        self._folder = local.home / "jobs" / job.ws.account / job.name
        self._exit_file = self._folder.with_name(f"{job.name}.exit")  # not for the job to remove
        self._build_file = self._folder.with_name(f"{job.name}.build")

    def work(self) -> None:
        if not self._adopt():
            self._launch()
        self._follow()

    def stop(self, reason: Ended) -> None:
        with self._lock:
            super().stop(reason)
            handle = self._handle
        if handle:
            handle.kill()

    def end(self, way: Ended) -> None:
        super().end(way)
        self._exit_file.unlink(missing_ok=True)
        self._build_file.unlink(missing_ok=True)
        launch.link_of(self._folder).unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    # Steps

    def _adopt(self) -> bool:
        """Whether an earlier daemon started the process; it is followed, or its end is taken."""
        noted = self.local.store.noted(self.job.id, "process")
        if noted:
            self._handle = processes.Handle(*noted)
        elif self.row().properties["status"] != "Queued":  # that daemon may not have noted it
            self._handle = processes.find(self._exit_file)
            if builder := processes.find(self._build_file):
                builder.kill()  # of a build that begins anew
        return self._handle is not None or self._exit_file.exists()

    def _launch(self) -> None:
        self.status("Preparing")
        self.check()
        shutil.rmtree(self._folder, ignore_errors=True)
        given = self.row().properties
        properties = AS_COMMAND[given["jobType"]](given)
        root = launch.root(self._folder)
        for log in (USER_LOG, BUILD_LOG):
            (self.artifacts / log).parent.mkdir(parents=True, exist_ok=True)
        (self.artifacts / USER_LOG).touch()
        python = self._interpreter(properties)
        cwd = launch.working_directory(self.local, self.job, properties, root)
        found = launch.values(self.local, self.job, properties, root)
        script = root / "command.sh"
        line = launch.rendered(properties["command"], found)
        script.write_text(line + "\n", "utf-8")
        environment = launch.environment(self.local, self.job, properties, python, found)
        launch.installing(properties["command"], python, root, environment)
        shell = [shutil.which("bash") or "/bin/sh", str(script)]
        logs = (self.artifacts / USER_LOG).parent
        command = distribution.command(shell, properties, root, logs)
        command = self._with_services(command, properties, python, root)
        where = {"log": self.artifacts / USER_LOG, "exit_file": self._exit_file}
        ready = self.local.warm.ready(line, cwd, environment) if command == shell else None
        with self._lock:
            self.check()
            begun = warm.begin(ready, command, script, cwd=cwd, env=environment, **where)
            self._handle = begun.handle
        with self.local.store.transaction():
            self.local.store.note(self.job.id, "process", list(self._handle))
            self.status("Running", StartTimeUtc=now())
        begun.go()

    def _with_services(
        self, command: list[str], properties: Body, python: Path, root: Path
    ) -> list[str]:
        """The command with the job's services started beside it, in its process group."""
        asked = properties.get("services")
        if not asked:
            return command
        logs = self.artifacts / "system_logs"
        logs.mkdir(exist_ok=True)
        lines, told = services.started(asked, python.parent, root / "wd", logs)
        self.local.store.note(self.job.id, "services", told)
        script = root / "services.sh"
        script.write_text("\n".join([*lines, f"exec {shlex.join(command)}", ""]), "utf-8")
        return ["/bin/sh", str(script)]

    def _follow(self) -> None:
        if self._handle:
            self._wait(self._handle)
        code = processes.exit_code(self._exit_file)
        self.status("Finalizing", **({} if code is None else {"ExitCode": str(code)}))
        self._keep_outputs()
        way = self._outcome(code)
        if way.status == "Completed":
            outputs.register(self.local, self.job.ws, self.row())
        raise way

    def _wait(self, handle: processes.Handle) -> None:
        timeout = self._timeout()
        in_time = self._ended(handle, timeout and timeout - self._seconds())
        handle.kill()  # what the command left running in its process group, or all of it
        processes.reap(handle)
        processes.end_strays(self._exit_file)
        self.check()
        if not in_time:
            raise Failed(f"The job ran into its limit of {timeout:.0f} seconds.")

    def _ended(self, handle: processes.Handle, timeout: float | None) -> bool:
        """Wait until the process has ended, at most `timeout` seconds; whether it has."""
        return handle.wait(timeout)

    def _outcome(self, code: int | None) -> Ended:
        if code is None:
            return Failed(f"The process of the job was killed.\n{self.tail(USER_LOG)}")
        if code == 0:
            return Ended()
        return Failed(
            f"Execution failed. The command exited with status code {code}. "
            f"The last lines of '{USER_LOG}':\n{self.tail(USER_LOG)}"
        )

    def _interpreter(self, job: Body) -> Path:
        log = environments.Log(partial(self.say, BUILD_LOG), self._build_step, self.check)
        id_ = job.get("environmentId") or ""
        return environments.interpreter(self.local, self.job.ws, id_, log)

    def _build_step(self, command: list[str]) -> int:
        exit_file = self._build_file
        exit_file.unlink(missing_ok=True)
        env = {"UV_SYSTEM_CERTS": "1", **os.environ}  # certificates of a proxy too, as for pip
        env.pop("VIRTUAL_ENV", None)
        log = self.artifacts / BUILD_LOG
        handle = processes.start(command, cwd=self._folder, env=env, log=log, exit_file=exit_file)
        while not handle.wait(0.2):
            if self._reason:
                handle.kill()
        processes.reap(handle)
        self.check()
        code = processes.exit_code(exit_file)
        return 1 if code is None else code

    def _seconds(self) -> float:
        """How long the process has run, under earlier daemons too."""
        began = self.row().properties["properties"].get("StartTimeUtc") or now()
        return (datetime.now(UTC) - datetime.fromisoformat(began)).total_seconds()

    def _timeout(self) -> float | None:
        limit = (self.row().properties.get("limits") or {}).get("timeout")
        return isodate.parse_duration(limit).total_seconds() if limit else None

    def _keep_outputs(self) -> None:
        """Snapshots may bring folders named like the linked ones: what is in those is kept too."""
        for name in ("outputs", "logs"):
            folder = self._folder / "wd" / name
            if folder.is_dir() and not folder.is_symlink():
                shutil.copytree(folder, self.artifacts / name, dirs_exist_ok=True)
