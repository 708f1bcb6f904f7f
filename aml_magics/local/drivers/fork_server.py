"""Import what a job's script begins with, once, and fork a process for each job.

Usage: PYTHON fork_server.py DESCRIPTOR IMPORT... ROOM; an import is a module, or
MODULE:NAME,NAME; the last argument makes room for command lines of jobs (`_mark_words`). The
descriptor is a socket: it tells what was found while importing (`_import`), and then brings a
socket for each job to start.

A job's process has to be what a new interpreter would be. What an import leaves behind in a process
and `_renew` cannot make new is a reason to start no job from here, and is reported.
"""

from __future__ import annotations

_MAIN = {**globals(), "__doc__": None}  # what a new main module has
del _MAIN["annotations"]

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

    Json = dict[str, Any]

del sys.modules["__future__"]
sys.path_importer_cache.pop(sys.path.pop(0), None)  # this file's folder is none of the job's

# Threads that get over a fork: jemalloc's (in pyarrow) is stopped and renewed by its own handlers.
_FORK_SAFE = {"jemalloc_bg_thd"}
# Who may read all variables or the working directory while imported: `_renew_modules` repeats it.
_RENEWED = {
    "variables": {"tqdm.utils", "wsgiref.handlers"},
    "folder": {"multiprocessing.process", "rich"},
}


class _Watch:
    """Watches what imports ask a process for."""

    def __init__(self) -> None:
        self.names: set[str] = set()  # top-level modules looked for, found or not
        self.variables: set[str] = set()  # read by name
        self.written: dict[str, str | None] = {}  # variables that were set, None when deleted
        self.readers: dict[str, set[str]] = {
            "variables": set(),
            "folder": set(),
        }  # modules that read all of it

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        self.names.add(name.partition(".")[0])

    def read(self, what: str) -> None:
        frame = sys._getframe(2)
        skipped = {"os", "posixpath", "genericpath", "collections.abc", "_collections_abc"}
        while frame.f_back and frame.f_globals.get("__name__") in skipped:
            frame = frame.f_back
        self.readers[what].add(str(frame.f_globals.get("__name__")))


def _watched(plain: Any, watch: _Watch) -> Any:
    """A class for os.environ that tells what is done with it."""

    class Environ(plain):  # type: ignore[misc]
        def __getitem__(self, key: Any) -> Any:
            watch.variables.add(os.fsdecode(key))
            return super().__getitem__(key)

        def __contains__(self, key: Any) -> bool:
            watch.variables.add(os.fsdecode(key))
            return bool(super().__contains__(key))

        def __setitem__(self, key: Any, value: Any) -> None:
            watch.written[os.fsdecode(key)] = os.fsdecode(value)
            super().__setitem__(key, value)

        def __delitem__(self, key: Any) -> None:
            watch.written[os.fsdecode(key)] = None
            super().__delitem__(key)

        def __iter__(self) -> Iterator[Any]:
            watch.read("variables")
            yield from super().__iter__()

    return Environ


def _import(statements: list[str]) -> Json:
    """Do the imports; what came of them."""
    watch, plain, getcwd = _Watch(), type(os.environ), os.getcwd

    def watched_getcwd() -> str:
        watch.read("folder")
        return getcwd()

    sys.meta_path.insert(0, watch)
    variables: tuple[Any, Any] = (os.environ, os.environb)
    for one in variables:
        one.__class__ = _watched(plain, watch)
    os.getcwd = watched_getcwd
    try:
        for statement in statements:
            module, _, names = statement.partition(":")
            __import__(module, {}, {}, names.split(",") if names else [])
        reason = ""
    except BaseException as error:
        reason = f"the imports fail: {error!r}"
    finally:
        os.getcwd = getcwd
        for one in variables:
            one.__class__ = plain
        sys.meta_path.remove(watch)
    return {
        "reason": reason or _reason(watch),
        "version": sys.hexversion,
        "names": sorted(watch.names),
        "variables": sorted(watch.variables),
        "written": watch.written,
        "path": sys.path,
    }


def _reason(watch: _Watch) -> str:
    """Why a fork of this process would not be like a new process, or nothing."""
    for what, known in _RENEWED.items():
        if unknown := watch.readers[what] - known:
            return f"{', '.join(sorted(unknown))} keeps the {what} of the process"
    if os.fstat(1).st_size:
        return "the imports print something"
    if threads := _threads():
        return f"the imports leave threads: {', '.join(threads)}"
    return ""


def _threads() -> list[str]:
    """Names of the threads that are left when those that end themselves for a fork have done so."""
    if not os.fork():
        os._exit(0)
    os.wait()
    threads = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    return sorted({_name_of(task) for task in threads} - _FORK_SAFE)


def _name_of(task: str) -> str:
    with open(f"/proc/self/task/{task}/comm") as name:
        return name.read().strip()


def _serve(control: socket.socket, found: Json) -> Json:
    """Start jobs until nobody asks for any. Returns, in the process of a job, what it is to do."""
    gc.collect()
    gc.freeze()
    control.sendall(json.dumps(found).encode() + b"\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while select.select([control], [], [], IDLE_SECONDS)[0]:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            break
        if not os.fork():
            control.close()
            return _lead(socket.socket(fileno=descriptors[0]), found)
        os.close(descriptors[0])
    os._exit(0)


def _lead(connection: socket.socket, found: Json) -> Json:
    """In a process group of its own, start the job when told to, and write down how it ends."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    job = json.loads(connection.makefile().readline())
    _mark_exit_file(os.fsencode(job["environment"]["AML_EXIT"]))
    connection.sendall(b"%d\n" % os.getpid())
    begin = connection.recv(1)
    connection.close()
    if not begin:
        os._exit(0)
    log = os.open(job["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    child = os.fork()
    if child:
        _wait(child, job)
    return _renew(job, found)


def _mark_exit_file(name: bytes) -> None:
    """Put a job's exit file where other processes read this one's environment."""
    start, end = _places()[2:]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        block = memory.read(end - start)
    place = block.index(b"AML_EXIT=") + len(b"AML_EXIT=")
    room = block.index(b"\0", place) - place
    if len(name) > room:
        raise ValueError("the name of the exit file is too long")
    _write(start + place, name.ljust(room, b"\0"))


def _mark_words(words: list[str]) -> None:
    """Put a job's command line where other processes read this one's, as much as there is room."""
    start, end = _places()[:2]
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    _write(start, text[: end - start - 1].ljust(end - start, b"\0"))


def _places() -> list[int]:
    """Begin and end of the arguments and of the variables that this process was started with."""
    with open("/proc/self/stat") as stat:
        return [int(field) for field in stat.read().rpartition(")")[2].split()[45:49]]


def _write(place: int, text: bytes) -> None:
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(place)
        memory.write(text)


def _wait(child: int, job: Json) -> NoReturn:
    """As the shell does that a job otherwise has."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        code, number = 128 - code, -code
        if number not in {signal.SIGINT, signal.SIGPIPE}:
            name = str(signal.strsignal(number)) + (
                " (core dumped)" if os.WCOREDUMP(status) else ""
            )
            place = f"{job['shell']}: line 1: {child:5d}"
            is_asked = number == signal.SIGTERM
            line = f"{name}\n" if is_asked else f"{place} {name:<23} {job['line']}\n"
            os.write(2, line.encode("utf-8", "surrogateescape"))
    with open(job["environment"]["AML_EXIT"], "w") as file:
        file.write(f"{code}\n")
    os._exit(0)


def _renew(job: Json, found: Json) -> Json:
    """Make this process what a new one is; returns the job."""
    _mark_words(job["words"])
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    for name in set(sys.modules) - _modules:  # those of this file
        del sys.modules[name]
    _renew_modules(sys.modules)
    for name, value in found["written"].items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    sys.argv[:] = job["argv"]
    sys.orig_argv[:] = job["words"]
    return job


def _renew_modules(modules: dict[str, Any]) -> None:
    """What modules have made of the process when they were imported."""
    if process := modules.get("multiprocessing.process"):
        process.ORIGINAL_DIR = os.getcwd()
        process.current_process().authkey = os.urandom(32)
    if rich := modules.get("rich"):
        rich._IMPORT_CWD = os.getcwd()
    if handlers := modules.get("wsgiref.handlers"):
        handlers.BaseHandler.os_environ = handlers.read_environ()
    if logging := modules.get("logging"):
        import time

        # Nanoseconds in newer versions.
        now = time.time_ns() if isinstance(logging._startTime, int) else time.time()
        logging._startTime = now
    if random := modules.get("numpy.random"):  # Python's own is seeded at a fork
        random.seed()


def _new_main(job: Json) -> dict[str, Any]:
    """A main module as new as the process."""
    from importlib.machinery import SourceFileLoader

    main = type(sys)("__main__")
    main.__dict__.update(_MAIN)
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:  # what multiprocessing calls it as well
        sys.modules["__mp_main__"] = main
    if job["module"]:
        if job["words"][1] != "-P":
            sys.path.insert(0, os.getcwd())
        for name in ("__file__", "__cached__"):
            main.__dict__.pop(name, None)
        return main.__dict__
    path = os.path.join(os.getcwd(), job["argv"][0])
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    main.__file__, main.__loader__ = path, SourceFileLoader("__main__", path)
    return main.__dict__


def _end() -> None:
    """Finish as Python does, except for the modules that were imported ahead.

    To take those apart would copy all their memory, only to give it back; what the job itself has
    loaded and made is finalized. Returns when Python has to do it all.
    """
    global _space
    if _code is None:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        return  # Python tells, and ends with another code
    _space = None
    for name in [name for name in sys.modules if name not in _modules or "main__" in name]:
        del sys.modules[name]
    gc.collect()
    sys.stdout.flush()
    ctypes.PyDLL(None).exit(_code)  # so that C libraries flush and clean up too


def _exit_code(error: SystemExit) -> int | None:
    """What the process returns for a SystemExit, None if Python has to say."""
    code = 0 if error.code is None else error.code
    return code & 255 if isinstance(code, int) else None


def _without_this_file(hook: Any) -> Any:
    """A traceback shows the job's own frames."""
    return lambda kind, error, trace: hook(kind, error.with_traceback(trace.tb_next), trace.tb_next)


import atexit

_code = _space = None
atexit.register(_end)  # before any import can: what is registered first is called last
del sys.modules["atexit"]
_found = _import(sys.argv[2:-1])
_modules = set(sys.modules)

import ctypes
import gc
import json
import select
import signal
import socket

IDLE_SECONDS = 300.0

_job = _serve(socket.socket(fileno=int(sys.argv[1])), _found)
_space = _new_main(_job)
try:  # here, and not in a function, so that the least is below the job's own frames
    if _job["module"]:
        import runpy

        runpy._run_module_as_main(_job["module"])  # type: ignore[attr-defined]
    else:
        with open(_space["__file__"], "rb") as _file:
            _source = compile(_file.read(), _space["__file__"], "exec", dont_inherit=True)
        exec(_source, _space)
    _code = 0
except SystemExit as _error:
    _code = _exit_code(_error)
    raise
except BaseException as _error:
    _code = None if isinstance(_error, KeyboardInterrupt) else 1
    sys.excepthook = _without_this_file(sys.excepthook)
    raise
finally:
    for _name in ("__file__", "__cached__"):  # CPython removes them before the exit handlers run
        _space.pop(_name, None)
