"""Copy data: folders and files into a folder or a file, and tables from and to a database.

Usage:
    transfer.py copy MODE TARGET SOURCE...   MODE: merge_with_overwrite or fail_if_conflict
    transfer.py import DATABASE QUERY TARGET   into a folder: Parquet, and an MLTable that reads it
    transfer.py export DATABASE TABLE SOURCE   a CSV or Parquet file, added to the rows of a table

A database is a SQLite file.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

MLTABLE = "paths: [{file: ./rows.parquet}]\ntransformations: [read_parquet]\n"


class Refused(Exception):
    """Nothing was copied; the text says why."""


def copy(mode: str, target: str, *sources: str) -> str:
    """Copy every file of the sources; a file is there whole or as it was.

    Raises: Refused: a file would take the place of another, and MODE forbids that.
    """
    plan = [(file, Path(target, name)) for source in sources for file, name in _files(source)]
    if len(plan) == 1 and Path(sources[0]).is_file() and not Path(target).is_dir():
        plan = [(plan[0][0], Path(target))]
    if mode == "fail_if_conflict":
        _check_conflicts([place for _, place in plan])
    for file, place in plan:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.partial")
        shutil.copyfile(file, partial)
        partial.replace(place)
    return f"{len(plan)} files copied."


def _files(source: str) -> Iterator[tuple[Path, str]]:
    """The files of a source, each with the name that it keeps."""
    if Path(source).is_file():
        yield Path(source), Path(source).name
    for folder, _, names in sorted(os.walk(source)):
        for name in sorted(names):
            file = Path(folder, name)
            yield file, file.relative_to(source).as_posix()


def _check_conflicts(places: list[Path]) -> None:
    taken = next((p for at, p in enumerate(places) if p.exists() or p in places[:at]), None)
    if taken:
        raise Refused(f"{taken.name} is there already, and data_copy_mode is fail_if_conflict.")


def import_(database: str, query: str, target: str) -> str:
    import pandas as pd

    with closing(sqlite3.connect(database)) as connection:
        frame = pd.read_sql_query(query, connection)
    frame.to_parquet(Path(target, "rows.parquet"))
    Path(target, "MLTable").write_text(MLTABLE, "utf-8")
    return f"{len(frame)} rows imported."


def export(database: str, table: str, source: str) -> str:
    import pandas as pd

    is_parquet = source.endswith((".parquet", ".pqt"))
    frame = pd.read_parquet(source) if is_parquet else pd.read_csv(source)
    with closing(sqlite3.connect(database)) as connection, connection:
        frame.to_sql(table, connection, if_exists="append", index=False)
    return f"{len(frame)} rows exported to {table}."


TASKS: dict[str, Callable[..., str]] = {"copy": copy, "import": import_, "export": export}


def main(task: str, *arguments: str) -> int:
    try:
        print(TASKS[task](*arguments))
    except (Refused, OSError, ValueError, sqlite3.Error) as exc:
        print(f"The data could not be transferred: {exc}")
        return 1
    except Exception as exc:  # pandas' own, among them DatabaseError
        print(f"The data could not be transferred: {type(exc).__name__}: {exc}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
