"""Jobs from processes that have imported already what their scripts begin with.

A job that is one plain `python script.py …` whose first statements import pandas, scikit-learn,
MLflow and the like spends most of its time there. A fork server (drivers/fork_server.py) for these
imports does them once, in the job's own interpreter, and the job is a fork of it. That is done only
where a new interpreter would behave the same; everything else goes the ordinary way.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from aml_magics.local import processes

log = logging.getLogger(__name__)
Env = dict[str, str]

SERVER = Path(__file__).with_name("drivers") / "fork_server.py"
# The program of a job that is a notebook's cell: after its own imports come those of the cell.
CELL_RUNNER = Path(__file__).parents[1] / "cell_runner.py"
# What is imported ahead: packages that take long, and whose imports were tried (tests/local).
AHEAD = {"numpy", "scipy", "pandas", "sklearn", "matplotlib", "mlflow"}
SERVERS = 3  # at once; each has the memory that its imports take
IMPORT_SECONDS = 120.0
ANSWER_SECONDS = 10.0
_SHELL = re.compile(r"[;&|<>$`\\*?\[\]{}()~#!\r\n]")  # a line with one of these needs a shell
# Read by interpreters, the C library and C libraries when they are loaded.
_AT_START = re.compile(
    r"(PYTHON|LD_|MALLOC_|GLIBC|LC_|OMP_|GOMP_|KMP_|MKL_|OPENBLAS_|GOTO_|BLIS_|NPY_|NUMPY_|ARROW_"
    r"|JE_|MIMALLOC_|OPENSSL_|SSL|GFORTRAN_|ACC_|FREETYPE_|CRYPTOGRAPHY_|TQDM_|CUDA_|NVIDIA_).*"
    r"|LANG|LANGUAGE|LOCPATH|TZ|TZDIR|HOME|__PYVENV_LAUNCHER__"
)
_OF_ONE_JOB = re.compile(r"(AZUREML|AZURE_ML|MLFLOW)_.*")
_FOR_SHELLS = re.compile(r"BASH_ENV|BASH_FUNC_.*|SHELLOPTS|BASHOPTS")  # change what a shell does
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_COLLECTOR = re.compile(rb"\bgc\b")  # does not see what was imported ahead
_ROOM = 4096  # bytes for the name of an exit file and for a command line in the server


class Command(NamedTuple):
    """A command line that is one Python program.

    `module`: the name after `-m`, else ""; `argv`: as the program has it; `imports`: what its
    first statements import ahead; `before`: standard modules that it imports in between.
    """

    words: list[str]
    module: str
    argv: list[str]
    imports: tuple[str, ...]
    before: frozenset[str]


class Begun(NamedTuple):
    """A process; one with a connection waits to be told to begin, and ends without that."""

    handle: processes.Handle
    connection: socket.socket | None = None

    def go(self) -> None:
        if self.connection is None:
            return
        with contextlib.suppress(OSError), self.connection:  # else it is dead, as its handle says
            self.connection.sendall(b"g")


def command(line: str, folder: Path) -> Command | None:
    """A job's command line, if it is one plain `python` of a script or module in `folder`."""
    if _SHELL.search(line):
        return None
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    if not words or words[0] not in {"python", "python3"}:
        return None
    rest = words[2:] if words[1:2] == ["-u"] else words[1:]
    if rest[:1] == ["-m"] and rest[1:] and rest[1].isidentifier():
        module, argv, script = rest[1], ["-m", *rest[2:]], folder / f"{rest[1]}.py"
    elif rest and rest[0].endswith(".py") and not rest[0].startswith("-"):
        module, argv, script = "", rest, folder / rest[0]
    else:
        return None
    found = _imports(script)
    return Command(words, module, argv, *found) if found else None


def _imports(script: Path) -> tuple[tuple[str, ...], frozenset[str]] | None:
    """What a script's leading statements import of `AHEAD`, and before that of Python's own.

    What comes after the first other statement is not looked at: it may change what imports do.
    """
    try:
        sources = [script.read_bytes()]
        if sources[0] == CELL_RUNNER.read_bytes():
            sources.append(script.with_name("cell.py").read_bytes())
        statements = [ast.parse(source).body for source in sources]
    except (OSError, SyntaxError, ValueError):
        return None
    if any(map(_COLLECTOR.search, sources)):
        return None
    ahead: list[str] = []
    standard: list[str] = []
    before = frozenset[str]()
    for entry in chain.from_iterable(map(_leading, statements)):
        top = re.split("[.:]", entry)[0]
        if top in AHEAD:
            ahead.append(entry)
            before = frozenset(standard)
        elif top in sys.stdlib_module_names:
            standard.append(top)
        else:
            break
    return (tuple(ahead), before) if ahead else None


def _leading(statements: list[ast.stmt]) -> Iterator[str]:
    """The imports that a module begins with, past its docstring."""
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from _imported(statement)
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            return


def _imported(statement: ast.Import | ast.ImportFrom) -> list[str]:
    """`module`, or `module:name,name`, of an import statement; `.` for what is relative."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    names = ",".join(alias.name for alias in statement.names)
    return [f"{'.' * statement.level}{statement.module or ''}:{names}"]


class Ready(NamedTuple):
    """A server that suits a job: `begin` makes the job's process."""

    server: _Server
    command: Command
    line: str

    def begin(self, script: Path, cwd: Path, env: Env, log: Path, exit_file: Path) -> Begun | None:
        """Make the process; None: the server has just ended.

        Args: script: of the shell that would run the job; it names what a signal ended.
        """
        return self.server.begin(
            {
                "words": self.command.words,
                "argv": self.command.argv,
                "module": self.command.module,
                "line": self.line,
                "shell": str(script),
                "folder": str(cwd),
                "log": str(log),
                "environment": {
                    **of_shell(env, cwd, self.server.python),
                    "AML_EXIT": str(exit_file),
                },
            }
        )


def begin(
    ready: Ready | None,
    command: list[str],
    script: Path,
    *,
    cwd: Path,
    env: Env,
    log: Path,
    exit_file: Path,
) -> Begun:
    """Make a process: a fork where a server is ready, else an ordinary one that runs at once."""
    begun = ready and ready.begin(script, cwd, env, log, exit_file)
    return begun or Begun(processes.start(command, cwd=cwd, env=env, log=log, exit_file=exit_file))


class Warm:
    """The fork servers of a daemon; they end with it, and when idle for some minutes."""

    def __init__(self) -> None:
        self.is_on = sys.platform == "linux" and os.environ.get("AML_LOCAL_WARM") != "0"
        self._servers: dict[tuple[str, ...], _Server] = {}
        self._lock = threading.Lock()

    def ready(self, line: str, cwd: Path, env: Env) -> Ready | None:
        """A server for a job, which may have to do its imports; None: it goes the ordinary way."""
        found = command(line.strip(), cwd) if self.is_on else None
        if found is None or any(_FOR_SHELLS.fullmatch(name) for name in env):
            return None
        if "-u" in found.words[1:2] and not env.get("PYTHONUNBUFFERED"):
            return None
        return self._ready(found, line.strip(), cwd, env)

    def ready_module(
        self, words: list[str], imports: tuple[str, ...], cwd: Path, env: Env
    ) -> Ready | None:
        """The same for `PYTHON [-P] -m MODULE …`, of which it is known what it imports."""
        if not imports:
            return None
        place = words.index("-m") + 1
        argv = ["-m", *words[place + 1 :]]
        found = Command(words, words[place], argv, imports, frozenset())
        return self._ready(found, shlex.join(words), cwd, env)

    def _ready(self, of: Command, line: str, cwd: Path, env: Env) -> Ready | None:
        python = shutil.which(of.words[0], path=env.get("PATH"))
        server = self._server(of, python, env) if python else None
        return Ready(server, of, line) if server and server.suits(of, cwd, env) else None

    def expect(self, python: str, imports: tuple[str, ...], env: Env) -> None:
        """Begin with imports that a process is likely to want soon."""
        self._server(Command([python], "", [], imports, frozenset()), python, env)

    def _server(self, of: Command, python: str, env: Env) -> _Server | None:
        key = (of.words[0], python, *of.imports)
        with self._lock:
            if not self.is_on:
                return None
            server = self._servers.pop(key, None)
            if server is None or not server.is_current():
                if server:
                    server.stop()
                self._drop_ended()
                server = _Server(of, python, env)
            self._servers[key] = server  # last is what was used last
            for old in [key for key, one in self._servers.items() if one.is_alive()][:-SERVERS]:
                self._servers.pop(old).stop()
        return server

    def _drop_ended(self) -> None:
        """Close what is of no use any more; only when one is added, as it looks at packages."""
        for old in [key for key, one in self._servers.items() if not one.is_current()]:
            self._servers.pop(old).stop()

    def memory(self) -> int:
        """Bytes that the servers have in memory."""
        with self._lock:
            return sum(server.memory() for server in self._servers.values())

    def stop(self) -> None:
        with self._lock:
            self.is_on = False
            for server in self._servers.values():
                server.stop()


class _Server:
    """A process that has done some imports and starts jobs that begin with them."""

    def __init__(self, of: Command, python: str, env: Env) -> None:
        self.python, self._imports = python, ", ".join(of.imports)
        self._env = {k: v for k, v in env.items() if not _OF_ONE_JOB.fullmatch(k)}
        self._asking = threading.Lock()
        self._found: dict[str, Any] | None = None
        self._packages: dict[str, int] = {}
        self._control, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as printed:
            self._process = subprocess.Popen(
                [of.words[0], str(SERVER), str(theirs.fileno()), *of.imports, " " * _ROOM],
                executable=python,
                env={**self._env, "AML_EXIT": "x" * _ROOM},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                umask=processes.users_mask(),
            )

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def is_current(self) -> bool:
        """Whether it is of use as it is: a job would import the same from the same packages."""
        if self._found is None:
            return self.is_alive()
        return self._packages == _stamps(self._found) and (
            self.is_alive() or bool(self._found["reason"])
        )

    def suits(self, of: Command, cwd: Path, env: Env) -> bool:
        """Whether a new interpreter for this job would have come to the same imports."""
        found = self._answer()
        if found["reason"]:
            return False
        variables = {name for name in {*env, *self._env} if _AT_START.fullmatch(name)}
        if any(env.get(name) != self._env.get(name) for name in {*found["variables"], *variables}):
            return False
        folder = cwd if of.module else (cwd / of.argv[0]).resolve().parent
        beside = {entry.name.partition(".")[0] for entry in os.scandir(folder)}
        return not beside & {*found["names"], *of.before}

    def _answer(self) -> dict[str, Any]:
        """What the server found while importing, once it has."""
        with self._asking:
            if self._found is None:
                begun = time.monotonic()
                self._found = self._read() or {"reason": "the server ended", "path": []}
                if self._found.get("version", sys.hexversion) != sys.hexversion:
                    self._found["reason"] = "it is another Python"
                self._packages = _stamps(self._found)
                log.info(
                    "warm: %s in %.1f s, %d MB%s",
                    self._imports,
                    time.monotonic() - begun,
                    self.memory() >> 20,
                    f"; not used: {self._found['reason']}" if self._found["reason"] else "",
                )
                if self._found["reason"]:
                    self.stop()
            return self._found

    def _read(self) -> dict[str, Any] | None:
        self._control.settimeout(IMPORT_SECONDS)
        answer = bytearray()
        with contextlib.suppress(OSError):
            while not answer.endswith(b"\n") and (more := self._control.recv(1 << 16)):
                answer += more
        return json.loads(answer) if answer.endswith(b"\n") else None

    def begin(self, job: dict[str, Any]) -> Begun | None:
        mine, theirs = socket.socketpair()
        mine.settimeout(ANSWER_SECONDS)
        try:
            with theirs:
                socket.send_fds(self._control, [b"j"], [theirs.fileno()])
            mine.sendall(json.dumps(job).encode() + b"\n")
            pid = int(mine.recv(32))
            return Begun(processes.Handle(pid, psutil.Process(pid).create_time()), mine)
        except (OSError, ValueError, psutil.NoSuchProcess):
            mine.close()
            return None

    def memory(self) -> int:
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self._process.pid).memory_info().rss)
        return 0

    def stop(self) -> None:
        """End the server; its jobs go on."""
        self._process.kill()
        self._process.wait()
        self._control.close()


def _stamps(found: dict[str, Any]) -> dict[str, int]:
    """When something was last installed into or removed from the places of packages."""
    places = [Path(place) for place in found["path"]]
    return {str(place): place.stat().st_mtime_ns for place in places if place.exists()}


def of_shell(env: Env, cwd: Path, program: str) -> dict[str, str]:
    """The variables that a program sees which bash starts, itself started by sh."""
    kept = {name: value for name, value in env.items() if _NAME.fullmatch(name)}
    if not Path(kept.get("OLDPWD", "")).is_dir():
        kept.pop("OLDPWD", None)
    level = kept.get("SHLVL", "0")
    depth = int(level) + 1 if level.isdigit() else 1
    return {**kept, "PWD": str(cwd.resolve()), "SHLVL": str(depth), "_": program}
