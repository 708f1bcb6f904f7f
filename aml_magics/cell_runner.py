"""Run cell.py as the main program; its inputs are variables before its first line.

Goes into the snapshot of a job made from a notebook cell, so it needs nothing but Python.
Arguments: ``NAME:TYPE=TEXT`` for each input, ``--keep=NAME`` for each variable to keep.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
import types
from pathlib import Path
from typing import Any

CELL = "cell.py"
VARIABLES = "variables"
TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": lambda text: text.lower() == "true",
    "str": str,
    "path": str,
}


def main(arguments: list[str]) -> None:
    """Run the cell with its inputs, then keep what was asked for."""
    run_id = os.environ.get("MLFLOW_RUN_ID", "")  # mlflow takes it away when it resumes the run
    module = types.ModuleType("__main__")
    module.__dict__.update(inputs(arguments), __file__=CELL)
    sys.modules["__main__"] = module  # so that what the cell defines can be pickled
    sys.argv = [CELL]
    source = Path(CELL).read_text(encoding="utf-8")
    try:
        exec(compile(source, CELL, "exec"), module.__dict__)  # noqa: S102
    except Exception as error:
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, trace)  # the cell's own lines only
        sys.exit(1)
    names = [word.partition("=")[2] for word in arguments if word.startswith("--keep=")]
    if names:
        keep(names, module.__dict__, run_id)


def inputs(arguments: list[str]) -> dict[str, Any]:
    """Variables from the arguments and from the files beside the cell."""
    found: dict[str, Any] = {}
    for argument in arguments:
        if not argument.startswith("--"):
            name, _, text = argument.partition("=")
            name, _, kind = name.partition(":")
            found[name] = TYPES[kind](text)
    return {**found, **saved(Path(VARIABLES))}


def saved(folder: Path) -> dict[str, Any]:
    """Variables from the files of a folder."""
    found = {}
    for path in folder.glob("*"):
        content = path.read_bytes()
        is_json = path.suffix == ".json"
        found[path.stem] = json.loads(content) if is_json else pickle.loads(content)  # noqa: S301
    return found


def keep(names: list[str], namespace: dict[str, Any], run_id: str) -> None:
    """Save variables as artifacts of the run: as JSON where that gives them back, else pickled."""
    from mlflow import MlflowClient  # type: ignore[attr-defined, unused-ignore]

    for name in names:
        if name not in namespace:
            sys.exit(f"the cell has no variable '{name}' to bring back")
        content, suffix = packed(namespace[name])
        path = Path(f"{name}.{suffix}")
        path.write_bytes(content)
        MlflowClient().log_artifact(run_id, str(path), VARIABLES)


def packed(value: Any) -> tuple[bytes, str]:
    """A value's bytes and the suffix that says how to read them."""
    try:
        text = json.dumps(value)
        exact = type(value) in {dict, list, str, int, float, bool, type(None)}
        if exact and json.loads(text) == value:
            return text.encode(), "json"
    except (TypeError, ValueError):
        pass
    return pickle.dumps(value), "pkl"


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main(sys.argv[1:])
