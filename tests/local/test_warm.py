"""A job that a fork server begins is what a new interpreter would be: scripts run both ways."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from aml_magics.local import processes, warm

HEAD = "import numpy\n"
OF_ONE_PROCESS = re.compile(r"0x[0-9a-f]{5,}|(?<=line 1: )[ \d]+|(?<=started )\d+|[0-9a-f]{32}")
FILES = {
    "sibling.py": "def where():\n    return __name__, __file__, __package__\n",
    "chunk.py": "print('mine, not the standard one')\n",
    "package/__init__.py": "",
    "package/inner.py": "from . import other\nVALUE = other.VALUE + 1\n",
    "package/other.py": "VALUE = 1\n",
    "loud.py": "import numpy\nimport sys\nprint(__name__, sys.argv, sys.path[0], __spec__.name)\n",
    "broken.py": "import numpy\n1 / 0\n",
}


@pytest.fixture(scope="module")
def servers():
    found = warm.Warm()
    yield found
    found.stop()


@pytest.fixture
def folder(tmp_path):
    """Where the job's folder is; both ways have the same, one after the other."""
    return tmp_path / "a place"


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if not re.match("PYTHON|PYTEST|COV|MLFLOW", k)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PYTHONUNBUFFERED": "1", "PATH": path, "MPLBACKEND": "Agg", **more}


def lay_out(folder, script):
    """Args: script: that of script.py, or several files by name."""
    shutil.rmtree(folder, ignore_errors=True)
    scripts = script if isinstance(script, dict) else {"script.py": textwrap.dedent(script)}
    for name, text in {**FILES, **scripts}.items():
        path = folder / "wd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "command.sh").touch()
    (folder / "log").touch()


def result(folder, handle):
    assert handle.wait(120)
    handle.kill()
    processes.reap(handle)
    text = (folder / "log").read_text(errors="surrogateescape")
    return processes.exit_code(folder / "exit"), OF_ONE_PROCESS.sub("…", text)


def cold(folder, line, script, env):
    lay_out(folder, script)
    (folder / "command.sh").write_text(line + "\n")
    command = [shutil.which("bash"), str(folder / "command.sh")]
    paths = {"log": folder / "log", "exit_file": folder / "exit"}
    return result(folder, processes.start(command, cwd=folder / "wd", env=env, **paths))


def hot(servers, folder, line, script, env, imports=()):
    """Args: imports: of a program of which it is known what it imports; else its source tells."""
    lay_out(folder, script)
    if imports:
        ready = servers.ready_module(line.split(), imports, folder / "wd", env)
    else:
        ready = servers.ready(line, folder / "wd", env)
    assert ready, "the job would go the ordinary way"
    paths = {"log": folder / "log", "exit_file": folder / "exit"}
    begun = ready.begin(folder / "command.sh", folder / "wd", env, **paths)
    begun.go()
    return result(folder, begun.handle)


@pytest.fixture
def same(servers, folder):
    """Run a script both ways and compare what it printed and how it ended."""

    def call(script, line="python script.py", code=0, env=None):
        env = env or environment()
        expected = cold(folder, line, script, env)
        assert expected[0] == code, expected[1]
        assert hot(servers, folder, line, script, env) == expected
        return expected[1]

    return call


SCRIPTS = {
    "name and file": "print(__name__, __file__, __doc__, __package__, __spec__)",
    "names of the module": "print(sorted(globals()), type(__builtins__), __annotations__)",
    "loader": "print(type(__loader__), __loader__.name, __loader__.path)",
    "main module": "import __main__; print(__main__.__dict__ is globals())",
    "docstring": "'''doc'''\nimport numpy\nprint(__doc__)",
    "arguments": "import sys; print(sys.argv, sys.orig_argv)",
    "command line": """
        print(open("/proc/self/cmdline").read().rstrip("\\0").split("\\0"))
        """,
    "search path": "import sys; print(sys.path, sys.path_hooks, [type(f) for f in sys.meta_path])",
    "flags": "import sys; print(sys.flags, sys.warnoptions, sys._xoptions, sys.executable)",
    "prefixes": "import sys; print(sys.prefix, sys.base_prefix, sys.byteorder, sys.platlibdir)",
    "working directory": "import os; print(os.getcwd(), os.path.abspath('x'))",
    "modules": "import sys; print(sorted(sys.modules))",
    "environment": "import os; print(sorted(os.environ.items()))",
    "environment of children": "import os; os.system('env | sort | grep -v ^_=')",
    "variables in C": """
        import ctypes
        getenv = ctypes.CDLL(None).getenv
        getenv.restype = ctypes.c_char_p
        print(getenv(b"A_NAME"), getenv(b"AML_NONE"), getenv(b"AML_EXIT"))
        """,
    "limits": """
        import resource
        print([resource.getrlimit(n) for n in range(16)])
        """,
    "mask": "import os; print(os.umask(0))",
    "descriptors": "import os; print(sorted(os.listdir('/proc/self/fd')))",
    "standard streams": """
        import os, sys
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            print(stream, stream.isatty(), stream.line_buffering, stream.errors, stream.encoding)
            print(stream.write_through, stream.fileno(), stream.closed, type(stream.buffer))
        print(os.readlink("/proc/self/fd/0"), os.readlink("/proc/self/fd/1"))
        """,
    "input at its end": "try: input('name? ')\nexcept EOFError as e: print('no', e)",
    "streams in order": """
        import os, sys
        print("one"); print("two", file=sys.stderr); os.write(1, b"three\\n"); print("four")
        """,
    "unicode": "print('grüße 🐍 \\udcff'.encode('utf-8', 'surrogateescape').decode('latin-1'))",
    "a surrogate": "print('\\udcff')",
    "signals": """
        import signal
        print([(s, signal.getsignal(s)) for s in sorted(signal.valid_signals())])
        print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getitimer(0))
        """,
    "a handler": """
        import os, signal
        signal.signal(signal.SIGUSR1, lambda number, frame: print("got", number))
        os.kill(os.getpid(), signal.SIGUSR1)
        """,
    "process group": """
        import os
        print(os.getpgrp() == os.getsid(0) == os.getppid() or os.getpgrp() == os.getsid(0))
        """,
    "children": "import os\ntry: os.wait()\nexcept ChildProcessError: print('none')",
    "threads": """
        import threading
        print(threading.enumerate(), threading.main_thread() is threading.current_thread())
        t = threading.Thread(target=lambda: print(threading.current_thread().name)); t.start()
        """,
    "a thread at the end": """
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.2), print("late"))).start()
        print("main is done")
        """,
    "handlers at the end": """
        import atexit
        atexit.register(print, "first"); atexit.register(print, "second")
        atexit.register(lambda: print("__file__" in globals(), __name__))
        """,
    "finalizers": """
        class Last:
            def __del__(self): print("deleted", __name__)
        last = Last()
        """,
    "inspection": """
        import inspect
        def f(): return 1
        print(inspect.getsource(f), inspect.getfile(f), inspect.getmodule(f))
        """,
    "pickles": """
        import pickle
        class C: pass
        print(pickle.dumps(C()), type(pickle.loads(pickle.dumps(C()))) is C)
        """,
    "hidden frames": """
        import sys, traceback
        try: raise ValueError("x")
        except ValueError: traceback.print_exc()
        print(len(inspect.stack()) if "inspect" in globals() else sys._getframe().f_code.co_name)
        """,
    "subprocess": """
        import subprocess, sys
        print(subprocess.run([sys.executable, "-c", "import sys; print(sys.argv, sys.path[0])"],
              capture_output=True, text=True).stdout)
        """,
    "sibling modules": "import sibling; print(sibling.where(), sibling.__spec__)",
    "a sibling named like a standard module": "import chunk; print(chunk.__file__)",
    "relative imports": "from package.inner import VALUE; print(VALUE)",
    "warnings": """
        import warnings
        print(warnings.filters)
        warnings.warn("careful"); warnings.warn("again"); warnings.warn("old", DeprecationWarning)
        """,
    "logging": """
        import logging
        print(logging.root.handlers, logging.root.level, sorted(logging.root.manager.loggerDict))
        logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
        logging.warning("hello")
        """,
    "fault handler": "import faulthandler; print(faulthandler.is_enabled())",
    "locale": """
        import locale, sys, time
        print(locale.setlocale(locale.LC_ALL), sys.getfilesystemencoding(), time.tzname)
        """,
    "buffers of C": """
        import ctypes
        ctypes.CDLL(None).printf(b"no end of line")
        """,
    "limits of Python": "import sys; print(sys.getrecursionlimit(), sys.getswitchinterval())",
    "hooks": """
        import sys, threading
        print(sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook)
        print(sys.gettrace(), sys.getprofile(), sys.breakpointhook)
        """,
    "multiprocessing fork": """
        import multiprocessing as m
        def f(x): return x * x
        if __name__ == "__main__":
            with m.get_context("fork").Pool(2) as pool: print(pool.map(f, range(4)))
        """,
    "multiprocessing spawn": """
        import multiprocessing as m
        def f(x): return x * x
        if __name__ == "__main__":
            with m.get_context("spawn").Pool(2) as pool: print(pool.map(f, range(4)))
            print(m.current_process().name, m.parent_process(), m.process.ORIGINAL_DIR)
        """,
    "arrays": "print(numpy.arange(6).reshape(2, 3) @ numpy.ones((3, 2)), numpy.show_config())",
    "many threads of BLAS": """
        a = numpy.ones((900, 900)); print((a @ a).sum(), numpy.linalg.svd(a)[1][0].round(3))
        """,
    "a seed": """
        import random
        random.seed(1); numpy.random.seed(1); print(random.random(), numpy.random.rand())
        """,
    "exit 0": "import sys; sys.exit()",
}

ENDS = {
    "exit 3": ("import sys; sys.exit(3)", 3),
    "exit with a text": ("import sys; sys.exit('no more')", 1),
    "exit with a large number": ("import sys; sys.exit(1000)", 1000 & 255),
    "exit of a thread": ("import _thread, sys; raise SystemExit([1])", 1),
    "os._exit": ("import os; print('x'); os._exit(7)", 7),
    "quit": ("quit(5)", 5),
    "exception": ("def f():\n    raise ValueError('bad')\nf()", 1),
    "chain of exceptions": (
        "def f():\n    try: 1 / 0\n    except Exception as e: raise KeyError('k') from e\nf()",
        1,
    ),
    "group of exceptions": ("raise ExceptionGroup('g', [ValueError(1), KeyError(2)])", 1),
    "exception in a handler at the end": ("import atexit; atexit.register(lambda: 1 / 0)", 0),
    "own hook": (
        "import sys\nsys.excepthook = lambda k, e, t: print(e, t.tb_frame.f_code.co_name)\n1 / 0",
        1,
    ),
    "deep recursion": (
        "import sys\ndef f(): f()\ntry: f()\nexcept RecursionError as e: print(e)",
        0,
    ),
    "interrupt": ("raise KeyboardInterrupt", 130),
    "segmentation fault": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
    "terminated": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
    "broken pipe": ("import os, signal; signal.signal(13, 0); os.kill(os.getpid(), 13)", 141),
    "aborted": ("import os; os.abort()", 134),
    "relative import in main": ("from . import sibling", 1),
    "missing name": ("print(json)", 1),
    "missing module": ("import no_such_module", 1),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_the_same(same, name):
    body = textwrap.dedent(SCRIPTS[name])
    script = body if "import numpy\n" in body else HEAD + body
    print(same(script, env=environment(A_NAME="é")))


@pytest.mark.parametrize("name", ENDS)
def test_an_end_is_the_same(same, name):
    body, code = ENDS[name]
    same(HEAD + body, code=code)


HEADS = (
    "import pandas as pd",
    "from sklearn.linear_model import LinearRegression, Ridge",
    "from scipy import stats",
    "import matplotlib.pyplot as plt",
    "import mlflow",
    "import os\nimport mlflow\nimport pandas\nfrom sklearn.ensemble import RandomForestClassifier",
)
STATE = """
import copyreg, decimal, logging, multiprocessing.process, os, signal, sys, threading, warnings
print(sorted(sys.modules))
print(sorted(os.environ.items()))
print(sorted(os.listdir("/proc/self/fd")), os.getcwd())
print(warnings.filters, logging.root.handlers, logging.raiseExceptions)
print(sorted((n, l.level, str(l.handlers), l.disabled, l.propagate, str(l.filters))
             for n, l in logging.root.manager.loggerDict.items() if hasattr(l, "level")))
print([signal.getsignal(s) for s in signal.valid_signals()], threading.enumerate())
print(multiprocessing.process.ORIGINAL_DIR, decimal.getcontext(), sys.path, sys.path_hooks)
print([type(f).__name__ for f in sys.meta_path], sys.excepthook, sys.displayhook)
print(sorted(map(str, copyreg.dispatch_table)), sys.getrecursionlimit(), sys.getdlopenflags())
import numpy, wsgiref.handlers
print(numpy.geterr(), numpy.get_printoptions())
print(sorted(wsgiref.handlers.BaseHandler.os_environ.items()))
if "rich" in sys.modules: print(sys.modules["rich"]._IMPORT_CWD)
if "pandas" in sys.modules: print(sys.modules["pandas"].describe_option(_print_desc=False))
if "matplotlib" in sys.modules:
    m = sys.modules["matplotlib"]
    print(m.get_backend(), m.rcParams, m.get_configdir(), m.get_cachedir())
if "mlflow" in sys.modules:
    m = sys.modules["mlflow"]
    print(m.get_tracking_uri(), m.active_run(), m.get_registry_uri(), m.is_tracking_uri_set())
"""


@pytest.fixture(scope="module")
def imported_before():
    """A package's first import ever may write caches, as of fonts, and loads what that takes."""
    for head in HEADS:
        subprocess.run([sys.executable, "-c", head], env=environment(), check=True)


@pytest.mark.usefixtures("imported_before")
@pytest.mark.parametrize("head", HEADS)
def test_imports_leave_the_same_behind(same, head):
    env = environment(MLFLOW_TRACKING_URI="http://127.0.0.1:1/x", MLFLOW_RUN_ID="0" * 32)
    same(f"{head}\n{STATE}", env=env)


LINES = {
    "arguments": ("python script.py --text 'two words' -n=3 \"x y\" ü", 0),
    "another name": ("python3 script.py", 0),
    "unbuffered": ("python -u script.py a", 0),
    "the folder": ("python ./script.py", 0),
    "a path": ("python package/../script.py", 0),
    "a module": ("python -m loud a b", 0),
    "a module that fails": ("python -m broken", 1),
}


@pytest.mark.parametrize("name", LINES)
def test_a_command_line_is_the_same(same, name):
    line, code = LINES[name]
    same(f"{HEAD}import sys; print(sys.argv, sys.orig_argv, sys.path, __file__)", line, code)


@pytest.mark.parametrize("flag", ["-P ", ""])
def test_a_model_server_is_the_same(folder, flag):
    """A module of which it is known what it imports, with and without the folder it is in."""
    line = f"python {flag}-m loud --model m --socket s"
    env = environment(PYTHONPATH=str(folder / "wd"))
    servers = warm.Warm()  # of these variables
    try:
        expected = cold(folder, line, HEAD, env)
        assert expected[0] == 0, expected[1]
        assert hot(servers, folder, line, HEAD, env, ("numpy",)) == expected
    finally:
        servers.stop()


CELLS = {
    "inputs": ("import os\nimport numpy\nprint(C, numpy.ones(2), sorted(globals()), __file__)", 0),
    "the state of the process": (f"import mlflow\nimport pandas\n{STATE}", 0),
    "a class of its own": (f"{HEAD}import pickle\nclass A: pass\nprint(len(pickle.dumps(A())))", 0),
    "a failure": (f"{HEAD}def f():\n    1 / 0\nf()", 1),
    "an exit": (f"{HEAD}raise SystemExit(3)", 3),
}


@pytest.mark.usefixtures("imported_before")
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_of_a_notebook_is_the_same(same, name):
    cell, code = CELLS[name]
    env = environment(MLFLOW_TRACKING_URI="http://127.0.0.1:1/x", MLFLOW_RUN_ID="0" * 32)
    files = {"run_cell.py": warm.CELL_RUNNER.read_text(), "cell.py": cell}
    same(files, 'python run_cell.py C:float="0.5"', code, env)


def test_servers_that_ended_idle_leave_nothing_behind():
    servers, python = warm.Warm(), sys.executable
    try:
        for imports in (("json",), ("csv",), ("zlib",)):
            servers.expect(python, imports, environment())
            (server,) = servers._servers.values()
            server._process.kill()
            server._process.wait()
            control = server._control
        servers.expect(python, ("bz2",), environment())
        assert control.fileno() == -1  # it is closed
    finally:
        servers.stop()


def test_random_numbers_are_new_in_each_job(servers, folder):
    script = f"{HEAD}import random, os, multiprocessing as m\nprint(random.random())\n" + (
        "print(numpy.random.rand(), bytes(m.current_process().authkey))"
    )
    runs = [hot(servers, folder, "python script.py", script, environment())[1] for _ in range(2)]
    first, second = (set(text.split()) for text in runs)
    assert len(first) >= 3
    assert not first & second


ORDINARY = {
    "two commands": {"line": "python script.py; ls"},
    "a pipe": {"line": "python script.py | cat"},
    "a redirection": {"line": "python script.py > out"},
    "a variable": {"line": "python script.py $HOME"},
    "a variable in quotes": {"line": 'python script.py "$HOME"'},
    "a pattern": {"line": "python script.py *.py"},
    "braces": {"line": "python script.py {1,2}"},
    "a home": {"line": "python script.py ~"},
    "a comment": {"line": "python script.py # really"},
    "a backslash": {"line": "python script.py a\\ b"},
    "two lines": {"line": "python script.py\npython script.py"},
    "an open quote": {"line": "python script.py 'a"},
    "an assignment": {"line": "A=1 python script.py"},
    "another program": {"line": "bash script.py"},
    "another option": {"line": "python -O script.py"},
    "code": {"line": "python -c 'import numpy'"},
    "a package": {"line": "python -m package.inner"},
    "no script": {"line": "python"},
    "no such script": {"line": "python nothing.py"},
    "nothing to import ahead": {"script": "import json"},
    "no Python": {"script": "import numpy\n1 +"},
    "something before": {"script": "import os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport numpy"},
    "a sibling before": {"script": "import sibling\nimport numpy"},
    "a package of others before": {"script": "import psutil\nimport numpy"},
    "a try": {"script": "try:\n    import numpy\nexcept ImportError: pass"},
    "it looks at all objects": {"script": "import numpy\nimport gc\nprint(len(gc.get_objects()))"},
    "an import that fails": {"script": "import numpy.no_such_thing"},
    "a sibling in the way": {"files": ["pickle.py"]},
    "a folder in the way": {"files": ["bottleneck/x"], "script": "import numpy, pandas"},
    "a sibling of a module before": {"files": ["chunk.py"], "script": "import chunk\nimport numpy"},
    "threads": {"env": {"OMP_NUM_THREADS": "1"}},
    "a hash seed": {"env": {"PYTHONHASHSEED": "1"}},
    "a search path": {"env": {"PYTHONPATH": "/nowhere"}},
    "buffered": {"env": {"PYTHONUNBUFFERED": ""}},
    "a language": {"env": {"LC_ALL": "C"}},
    "a time zone": {"env": {"TZ": "Asia/Tokyo"}},
    "a library": {"env": {"LD_LIBRARY_PATH": "/nowhere"}},
    "a variable read at import": {"env": {"NPY_PROMOTION_STATE": "weak"}},
    "what bash reads first": {"env": {"BASH_ENV": "/nowhere"}},
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_might_differ_goes_the_ordinary_way(servers, folder, name):
    given = {"line": "python script.py", "script": HEAD, "files": [], "env": {}, **ORDINARY[name]}
    lay_out(folder, HEAD)
    (folder / "wd" / "chunk.py").unlink()
    assert servers.ready("python script.py", folder / "wd", environment())
    (folder / "wd" / "script.py").write_text(given["script"])
    for file in given["files"]:
        (folder / "wd" / file).parent.mkdir(exist_ok=True)
        (folder / "wd" / file).touch()
    assert servers.ready(given["line"], folder / "wd", environment(**given["env"])) is None
