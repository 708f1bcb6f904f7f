"""The entry script of a batch deployment that has none: scores files with an MLflow model.

Each row of a table, or each image, gives a line `row,prediction,file` of CSV; a prediction of
several values is JSON. Source of the file types: "Deploy MLflow models in batch deployments" of
Azure's documentation.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGES = (".png", ".jpg", ".jpeg", ".tiff", ".bmp", ".gif")
loaded: list[Any] = []  # the model


def init() -> None:
    import mlflow

    loaded.append(mlflow.pyfunc.load_model(os.environ["AML_BATCH_MODEL"]))


def run(mini_batch: list[str]) -> list[str]:
    return [line for path in mini_batch for line in _scored(path)]


def _scored(path: str) -> list[str]:
    kind = Path(path).suffix.lower()
    if kind not in READERS:
        kinds = ", ".join(READERS)
        raise ValueError(f"File type {kind!r} of {Path(path).name} is not supported, only {kinds}")
    schema = loaded[0].metadata.get_input_schema()
    predictions = loaded[0].predict(_typed(READERS[kind](path), schema))
    if hasattr(predictions, "to_dict") and hasattr(predictions, "columns"):
        predictions = predictions.to_dict(orient="records")
    return [_line(row, value, Path(path).name) for row, value in enumerate(predictions)]


def _line(row: int, value: Any, name: str) -> str:
    value = value.tolist() if hasattr(value, "tolist") else value
    text = json.dumps(value, default=str) if isinstance(value, (dict, list)) else value
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([row, text, name])
    return line.getvalue()


def _typed(data: Any, schema: Any) -> Any:
    """A table with its columns cast to what the model's signature says."""
    if schema is None or schema.is_tensor_spec() or not hasattr(data, "columns"):
        return data
    types = {c.name: c.type.to_pandas() for c in schema.inputs if c.name in data.columns}
    return data.astype(types)


def _csv(path: str) -> Any:
    import pandas as pd

    return pd.read_csv(path)


def _parquet(path: str) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


def _json(path: str) -> Any:
    import pandas as pd

    return pd.read_json(path, lines=path.endswith("l"))


def _image(path: str) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path))[None]  # a batch of one


READERS: dict[str, Callable[[str], Any]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".pqt": _parquet,
    ".json": _json,
    ".jsonl": _json,
    **dict.fromkeys(IMAGES, _image),
}
