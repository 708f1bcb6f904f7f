"""One worker of a parallel job: imports the entry script, calls `init` once and `run` for each
mini-batch that parallel.py sends, and `shutdown` at the end.

Usage: minibatch_worker.py SETTINGS, a JSON object: `descriptor` of the socket to parallel.py, path
of the `script`, its `arguments`, the `log` of its logger, the logging `level`, its `output` folder.

Answers are pairs of a word and what belongs to it: ready; broken, why `init` failed; failed, why
`run` did; done, how many results, their text and the names of their columns.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import os
import sys
import traceback
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

Send = Callable[[Any], None]


class EntryScript:
    """What Azure's `azureml_user.parallel_run` offers scripts: a logger, and where they are."""

    settings: ClassVar[dict[str, Any]] = {}

    @property
    def logger(self) -> logging.Logger:
        logger = logging.getLogger("EntryScript")
        if not logger.handlers:
            log = Path(self.settings["log"])
            log.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(log)
            form = "%(asctime)s|%(name)s|%(levelname)s|%(process)d|%(funcName)s()|%(message)s"
            handler.setFormatter(logging.Formatter(form))
            logger.addHandler(handler)
            logger.setLevel(self.settings["level"])
        return logger

    @property
    def log_dir(self) -> str:
        return str(Path(self.settings["log"]).parent)

    @property
    def dir(self) -> str:
        return str(Path(self.settings["script"]).parent)

    @property
    def working_dir(self) -> str:
        return str(Path.cwd())

    @property
    def output_dir(self) -> str:
        return os.environ.get("AZUREML_BI_OUTPUT_PATH", ".")


class Context:
    """The second argument of a `run` that takes one: which mini-batch it is."""

    def __init__(self, number: int, keys: dict[str, Any]) -> None:
        self.minibatch_index = number
        self.partition_key_value = keys


def main(settings: dict[str, Any]) -> int:
    os.set_inheritable(settings["descriptor"], False)
    connection = Connection(settings["descriptor"])
    try:
        module = _imported(settings)
        run = module.run
        getattr(module, "init", lambda: None)()
    except BaseException:
        connection.send(("broken", traceback.format_exc()))
        return 1
    connection.send(("ready", None))
    try:
        while (batch := connection.recv()) is not None:
            connection.send(_answer(run, *batch))
    except EOFError:  # parallel.py is gone
        return 1
    getattr(module, "shutdown", lambda: None)()
    return 0


def _imported(settings: dict[str, Any]) -> types.ModuleType:
    script = Path(settings["script"])
    EntryScript.settings = settings
    package, helper = (
        types.ModuleType("azureml_user"),
        types.ModuleType("azureml_user.parallel_run"),
    )
    helper.EntryScript = EntryScript  # type: ignore[attr-defined]
    package.parallel_run = helper  # type: ignore[attr-defined]
    sys.modules.update({package.__name__: package, helper.__name__: helper})
    sys.argv = [str(script), *settings["arguments"]]
    sys.path[0:1] = [str(Path.cwd()), str(script.parent)]  # the first was this program's folder
    spec = importlib.util.spec_from_file_location(script.stem, script)
    if spec is None or spec.loader is None:
        raise ImportError(f"{script.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    return module


def _answer(
    run: Callable[..., Any], number: int, data: Any, keys: dict[str, Any]
) -> tuple[str, Any]:
    try:
        result = run(data, Context(number, keys)) if _takes_context(run) else run(data)
        return "done", (len(result), text_of(result), _header(result))
    except BaseException:
        return "failed", traceback.format_exc()


def _takes_context(run: Callable[..., Any]) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds for p in inspect.signature(run).parameters.values()) > 1


def text_of(result: Any) -> str:
    """Results as they are appended: an item a line; a DataFrame's values with spaces between."""
    if hasattr(result, "to_csv"):
        text: str = result.to_csv(sep=" ", header=False, index=False)
        return text
    return "".join(f"{item}\n" for item in result)


def _header(result: Any) -> str:
    return result[:0].to_csv(sep=" ", index=False) if hasattr(result, "columns") else ""


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
