"""A short way from a request to a prediction, for models that are proven to allow it.

MLflow makes a DataFrame of each request, casts its columns, checks it against the signature and
hands it to scikit-learn, which makes an array of it. Where all columns are numbers and all
estimators look at values only, the array can be made at once. Whatever is not certain to come out
the same (`None` is returned for it) takes MLflow's own way.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

log = logging.getLogger("scoring")

Fast = Callable[[dict[str, Any]], Any]

# MLflow's type → numpy's, and the whole numbers that it holds and a double holds too.
NUMBERS = {
    "double": ("float64", 2**53),
    "float": ("float32", 2**24),
    "long": ("int64", 2**53),
    "integer": ("int32", 2**31 - 1),
}
WHOLE = ("long", "integer")
# Modules of scikit-learn whose estimators take a DataFrame of numbers for the array of its values.
PROVEN = {
    *("sklearn.cluster", "sklearn.decomposition", "sklearn.discriminant_analysis"),
    *("sklearn.dummy", "sklearn.ensemble", "sklearn.feature_selection", "sklearn.impute"),
    *("sklearn.isotonic", "sklearn.kernel_approximation", "sklearn.linear_model"),
    *("sklearn.mixture", "sklearn.naive_bayes", "sklearn.neighbors", "sklearn.neural_network"),
    *("sklearn.pipeline", "sklearn.preprocessing", "sklearn.random_projection", "sklearn.svm"),
    "sklearn.tree",
}
# In those modules, but they look at names or types of columns, or run a function of the user's.
NOT_PROVEN = {"FunctionTransformer", "FeatureUnion", "TargetEncoder"}
MOST_PARTS = 100_000  # estimators in a model


class Columns(NamedTuple):
    """The signature: names of the columns in order, and what is known of their numbers."""

    names: list[str]
    dtype: Any
    whole: list[int]
    limit: int


def compiled(model: Any) -> Fast | None:
    """The short way for a pyfunc model, or None where there is none."""
    try:
        columns = _columns(model.metadata.get_input_schema())
        estimator = _estimator(model)
    except Exception:
        log.debug("no short way", exc_info=True)
        return None
    if columns is None or estimator is None:
        return None
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    if not _agrees(model, estimator, columns):
        return None

    def predict(document: dict[str, Any]) -> Any:
        rows = None if document.get("params") is not None else _rows(document, columns)
        return None if rows is None else _predicted(estimator, rows)

    return predict


def _columns(schema: Any) -> Columns | None:
    import numpy as np

    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None
    kinds = [getattr(kind, "name", "") for kind in schema.input_types()]
    names = schema.input_names()
    is_plain = all(kind in NUMBERS for kind in kinds) and len(set(names)) == len(names) > 0
    if not is_plain or not all(schema.input_dict()[name].required for name in names):
        return None
    dtype = np.result_type(*(NUMBERS[kind][0] for kind in kinds))
    if len(set(kinds)) > 1 and not set(kinds) <= {"double", "long", "integer"}:
        return None  # a float among doubles is rounded first
    if dtype.kind == "i" and len(set(kinds)) > 1:  # pandas and numpy need not agree
        return None
    limit = min(NUMBERS[kind][1] for kind in kinds)
    whole = [place for place, kind in enumerate(kinds) if kind in WHOLE]
    return Columns(names, dtype, whole, limit)


# The model


def _estimator(model: Any) -> Any:
    """The estimator behind a pyfunc model if only its values matter to it, else None."""
    function = model.metadata.flavors["python_function"]
    is_own = function.get("loader_module") == "mlflow.sklearn"
    if not is_own or function.get("predict_fn", "predict") != "predict":
        return None
    estimator = model.get_raw_model()
    parts = list(_parts(estimator, set()))
    return estimator if len(parts) < MOST_PARTS and all(map(_is_proven, parts)) else None


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """All estimators in an estimator, and whatever else in it can be called."""
    if id(value) in seen or len(seen) > 10 * MOST_PARTS:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        yield from chain.from_iterable(_parts(item, seen) for item in value.values())
    elif isinstance(value, (list, tuple, set)):
        yield from chain.from_iterable(_parts(item, seen) for item in value)
    elif getattr(getattr(value, "dtype", None), "kind", "") == "O":
        yield from chain.from_iterable(_parts(item, seen) for item in value.ravel())
    elif hasattr(value, "get_params") and hasattr(value, "fit") and not isinstance(value, type):
        yield value
        yield from _parts(vars(value), seen)


def _is_proven(part: Any) -> bool:
    kind = type(part)
    module = ".".join(kind.__module__.split(".")[:2])
    kinds = getattr(part, "is_categorical_", None)
    looks_at_columns = (
        getattr(part, "_sklearn_output_config", None)
        or any(() if kinds is None else kinds)
        or callable(getattr(part, "func", None))
    )
    return module in PROVEN and kind.__name__ not in NOT_PROVEN and not looks_at_columns


def _agrees(model: Any, estimator: Any, columns: Columns) -> bool:
    """Whether both ways come to the same for some rows: what was not thought of shows here."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    values = random.integers(-9, 9, (4, len(columns.names))).astype(columns.dtype)
    if not columns.whole:
        values = values + random.random(values.shape).astype(columns.dtype)
    frame = pd.DataFrame(values, columns=columns.names)
    for place in columns.whole:
        frame[columns.names[place]] = values[:, place].astype("int64")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow.utils.proto_json_utils import cast_df_types_according_to_schema

            given = cast_df_types_according_to_schema(frame, model.metadata.get_input_schema())
            theirs = model.predict(given)
        ours = _predicted(estimator, np.asfortranarray(values))
    except Exception:
        log.debug("no short way", exc_info=True)
        return False
    is_array = isinstance(theirs, np.ndarray) and isinstance(ours, np.ndarray)
    return is_array and theirs.dtype == ours.dtype and bool((theirs == ours).all())


def _predicted(estimator: Any, rows: Any) -> Any:
    return estimator.predict(rows)


# The request


def _rows(document: dict[str, Any], columns: Columns) -> Any:
    """The array that MLflow and scikit-learn would make of the request, or None."""
    import numpy as np

    rows = _ordered(document["input_data"], columns.names)
    if not rows:
        return None
    kinds = set(map(type, chain.from_iterable(rows)))
    if not kinds <= {int, float}:
        return None
    if columns.whole and not _are_whole(rows, columns):
        return None
    if int in kinds and not _are_exact(rows, columns.limit):
        return None
    return np.array(rows, dtype=columns.dtype, order="F")  # as pandas lays it out


def _ordered(given: Any, names: list[str]) -> list[list[Any]] | None:
    """Rows in the order of the columns, from the forms of a table: rows, records and split."""
    if isinstance(given, dict):
        given = _split(given, names)
    if type(given) is not list:
        return None
    count = len(names)
    if all(type(row) is list and len(row) == count for row in given):
        return given
    try:
        if all(type(row) is dict and len(row) == count for row in given):
            return [[row[name] for name in names] for row in given]
    except KeyError:
        pass
    return None


def _split(given: dict[str, Any], names: list[str]) -> Any:
    """The rows of a table whose columns are all there and in order, else None."""
    data, index = given.get("data"), given.get("index")
    if not given.keys() <= {"columns", "index", "data"} or given.get("columns") != names:
        return None
    is_fit = index is None or (type(index) is list and len(index) == len(data or ()))
    return data if is_fit else None


def _are_whole(rows: list[list[Any]], columns: Columns) -> bool:
    return all(type(row[place]) is int for row in rows for place in columns.whole)


def _are_exact(rows: list[list[Any]], limit: int) -> bool:
    """Whether no number is changed on its way through other types."""
    return all(
        -limit <= value <= limit for value in chain.from_iterable(rows) if type(value) is int
    )
