"""The data of a parallel job, cut into mini-batches: lists of files, or pandas DataFrames.

Source of the rules: "Use parallel jobs in pipelines" and "MLTable YAML schema" of Azure's
documentation. A mini-batch of a table is of about so many bytes and never crosses a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

FILES, BYTES = 10, 1 << 20  # in a mini-batch when its size is not said
UNITS = {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
READERS = ("read_delimited", "read_parquet", "read_json_lines")


class BadData(Exception):
    """The input cannot be cut into mini-batches; the text says why."""


class MiniBatch(NamedTuple):
    """What one call of `run` gets: paths of files or a DataFrame, and how many items that is.

    `keys`: the values that its rows share, by partition key; a partition is one item.
    """

    number: int
    data: Any
    items: int
    keys: dict[str, Any]


def split(place: str, size: str, keys: list[str], is_table: bool) -> Iterator[MiniBatch]:
    """The mini-batches of a file or folder.

    Args:
        size: how many files, or bytes of a table: `5`, `10kb`; "" or "0" for the default.
        keys: one mini-batch for each combination of values of these columns; `size` is not used.
    Raises: BadData.
    """
    amount = size_of(size)
    spec = _mltable(Path(place)) if is_table else None
    if spec is None or not _is_read(spec):
        if keys:
            raise BadData("partition_keys need a tabular input, an MLTable that reads its files.")
        paths = _paths(Path(place), spec) if spec else files_in(place)
        for number, chunk in enumerate(chunks(paths, amount or FILES)):
            yield MiniBatch(number, chunk, len(chunk), {})
    elif keys:
        for number, (values, frame) in enumerate(_partitions(_frames(Path(place), spec), keys)):
            yield MiniBatch(number, frame, 1, values)
    else:
        parts = _slices(_frames(Path(place), spec), amount or BYTES)
        for number, frame in enumerate(parts):
            yield MiniBatch(number, frame, len(frame), {})


def table(place: str) -> Any:
    """A whole MLTable as one pandas DataFrame.

    Raises: BadData: it is none, or has no rows.
    """
    import pandas as pd

    folder = Path(place)
    spec = _mltable(folder)
    if not _is_read(spec):
        raise BadData("The MLTable does not say how its files are read, as read_delimited does.")
    frames = [frame for frame, _ in _frames(folder, spec)]
    if not frames:
        raise BadData("The MLTable has no rows.")
    return pd.concat(frames, ignore_index=True)


def size_of(text: str) -> int:
    """`10kb` → 10240.

    Raises: BadData: it is no size.
    """
    match = re.fullmatch(r"(\d+)\s*([kmg]b)?", str(text or 0).strip().lower())
    if match is None:
        raise BadData(f"The mini_batch_size {text!r} is none: use 5, 1024, 10kb, 1mb or 1gb.")
    return int(match[1]) * UNITS[match[2] or ""]


def files_in(place: str) -> list[str]:
    """The files at and below a path, by name."""
    if os.path.isfile(place):  # noqa: PTH113 (a path that is kept as it was given)
        return [place]
    found = (os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names)  # noqa: PTH118
    return sorted(found)


def chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


# MLTable


def _mltable(folder: Path) -> dict[str, Any]:
    """The MLTable file in a folder."""
    file = folder / "MLTable"
    if not file.is_file():
        raise BadData("The input is a table but its folder has no MLTable file.")
    try:
        import yaml
    except ImportError as exc:
        message = "To read an MLTable the job's environment needs mltable, or pandas and pyyaml."
        raise BadData(message) from exc
    spec = yaml.safe_load(file.read_text("utf-8"))
    if not isinstance(spec, dict) or not isinstance(spec.get("paths"), list):
        raise BadData("The MLTable file has no list of paths.")
    return spec


def _steps(spec: dict[str, Any]) -> list[tuple[str, Any]]:
    """Its transformations, each as a name and what is said of it."""
    steps = spec.get("transformations") or []
    return [(step, {}) if isinstance(step, str) else next(iter(step.items())) for step in steps]


def _is_read(spec: dict[str, Any]) -> bool:
    return any(name.startswith("read_") for name, _ in _steps(spec))


def _paths(folder: Path, spec: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for entry in spec["paths"]:
        kind, text = next(iter(entry.items()))
        place = _local(folder, str(text))
        if kind == "pattern":
            root = Path(place.anchor) if place.is_absolute() else folder
            matches = root.glob(str(place.relative_to(root)))
            found += sorted(str(path) for path in matches if path.is_file())
        elif place.exists():
            found += files_in(str(place))
        else:
            raise BadData(f"The MLTable names {text}, which is not there.")
    return found


def _local(folder: Path, text: str) -> Path:
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    if "://" in text:
        raise BadData(f"The MLTable names {text}, which is not on this machine.")
    return folder / text  # an absolute path stays one


def _frames(folder: Path, spec: dict[str, Any]) -> Iterator[tuple[Any, int]]:
    """Each file as a DataFrame, with its size in bytes; files that end empty are left out."""
    paths = _paths(folder, spec)
    unknown = [name for name, _ in _steps(spec) if name not in (*READERS, *_TRANSFORMATIONS)]
    if unknown:
        yield _by_mltable(folder, unknown[0]), sum(Path(path).stat().st_size for path in paths)
        return
    left: dict[str, int] = {}  # rows that `take` and `skip` still have to take and to skip
    for path in paths:
        frame = None
        for step, (name, about) in enumerate(_steps(spec)):
            if name in READERS:
                frame = _read(path, name, about or {})
            elif name in ("take", "skip"):
                frame = _limited(frame, name, left, f"{name} {step}", int(about))
            else:
                frame = _TRANSFORMATIONS[name](frame, about, path)
        if frame is not None and len(frame):
            yield frame, Path(path).stat().st_size


def _by_mltable(folder: Path, unknown: str) -> Any:
    try:
        import mltable
    except ImportError as exc:
        message = f"The MLTable's {unknown} needs the package mltable in the job's environment."
        raise BadData(message) from exc
    return mltable.load(str(folder)).to_pandas_dataframe()


def _read(path: str, reader: str, about: dict[str, Any]) -> Any:
    try:
        import pandas as pd
    except ImportError as exc:
        raise BadData("To read a table the job's environment needs pandas.") from exc
    if reader == "read_parquet":
        return pd.read_parquet(path)
    if reader == "read_json_lines":
        return pd.read_json(path, lines=True)
    no_header = about.get("header") == "no_header"
    frame = pd.read_csv(
        path,
        sep=about.get("delimiter", ","),
        encoding=about.get("encoding") or "utf8",
        header=None if no_header else 0,
        keep_default_na=not about.get("empty_as_string"),
    )
    if no_header:
        frame.columns = pd.Index([f"Column{number + 1}" for number in range(frame.shape[1])])
    return frame


def _limited(frame: Any, name: str, left: dict[str, int], step: str, rows: int) -> Any:
    now = min(left.get(step, rows), len(frame))
    left[step] = left.get(step, rows) - now
    return frame[:now] if name == "take" else frame[now:]


def _converted(frame: Any, about: list[dict[str, Any]], path: str) -> Any:
    for change in about:
        columns, kind = change["columns"], str(change["column_type"])
        for column in [columns] if isinstance(columns, str) else columns:
            frame[column] = _cast(frame[column], kind)
    return frame


def _cast(column: Any, kind: str) -> Any:
    import pandas as pd

    if kind.startswith("datetime"):
        return pd.to_datetime(column)
    types = {"int": "int64", "float": "float64", "string": "str", "boolean": "bool"}
    return column.astype(types.get(kind, kind))


def _from_path(frame: Any, about: dict[str, Any], path: str) -> Any:
    """Columns whose values are in the path: `/{store}/{brand}/{}.parquet`."""
    pattern = re.escape(str(about["partition_format"]).lstrip("/"))
    pattern = re.sub(r"\\{(\w*)(?::[^}]*)?\\}", _group, pattern).replace(r"\*", "[^/]*")
    match = re.search(f"(?:^|/){pattern}$", path)
    if match is None:
        raise BadData(f"{path} is not of the partition_format {about['partition_format']}.")
    return frame.assign(**match.groupdict())


def _group(match: re.Match[str]) -> str:
    return f"(?P<{match[1]}>[^/]+)" if match[1] else "[^/]+"


_TRANSFORMATIONS: dict[str, Any] = {
    "take": None,  # of the whole table, see _limited
    "skip": None,
    "keep_columns": lambda frame, names, path: frame[[names] if isinstance(names, str) else names],
    "drop_columns": lambda frame, names, path: frame.drop(columns=names),
    "convert_column_types": _converted,
    "extract_columns_from_partition_format": _from_path,
}


def _slices(frames: Iterable[tuple[Any, int]], size: int) -> Iterator[Any]:
    for frame, bytes_ in frames:
        rows = max(1, size * len(frame) // max(bytes_, 1))
        for start in range(0, len(frame), rows):
            yield frame[start : start + rows].reset_index(drop=True)


def _partitions(
    frames: Iterable[tuple[Any, int]], keys: list[str]
) -> Iterator[tuple[dict[str, Any], Any]]:
    import pandas as pd

    parts = [frame for frame, _ in frames]
    if not parts:
        return
    table = pd.concat(parts, ignore_index=True)
    absent = [key for key in keys if key not in table.columns]
    if absent:
        raise BadData(f"The table has no column {absent[0]}, which is one of its partition_keys.")
    for found, rows in table.groupby(keys, dropna=False):
        values = found if isinstance(found, tuple) else (found,)
        named = dict(zip(keys, values))  # noqa: B905 (jobs run on Pythons without strict)
        yield named, rows.reset_index(drop=True)
