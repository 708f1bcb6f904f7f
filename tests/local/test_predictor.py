"""The short way predicts what MLflow's own way predicts, bit for bit, or leaves it to that."""

import json
import warnings

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from aml_magics.local import predictor, scoring

NAMES = ["a", "b", "c"]
RNG = np.random.default_rng(1)
ROWS = pd.DataFrame(RNG.integers(-5, 5, (60, 3)) + RNG.random((60, 3)).round(2), columns=NAMES)
CLASSES = (ROWS.sum(axis=1) > 0).astype(int)
LABELS = np.where(CLASSES, "high", "low")
ESTIMATORS = {
    "logistic": (make_pipeline(StandardScaler(), LogisticRegression()), CLASSES),
    "labels": (LogisticRegression(), LABELS),
    "linear": (LinearRegression(), ROWS.sum(axis=1)),
    "forest": (RandomForestClassifier(5, random_state=0), CLASSES),
    "boosting": (HistGradientBoostingRegressor(max_iter=5), ROWS.sum(axis=1)),
    "imputed": (make_pipeline(SimpleImputer(), LinearRegression()), ROWS.sum(axis=1)),
    "clusters": (KMeans(3, n_init=1, random_state=0), None),
    "by name": (
        make_pipeline(ColumnTransformer([("x", StandardScaler(), ["a", "b"])]), LinearRegression()),
        ROWS.sum(axis=1),
    ),
    "own function": (make_pipeline(FunctionTransformer(np.abs), LinearRegression()), CLASSES),
}
# The server does not pass on that arrays have no names of columns.
pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")
SHORT = {"logistic", "labels", "linear", "forest", "boosting", "imputed", "clusters"}


def columns(*kinds, required=True):
    pairs = zip(kinds, NAMES, strict=True)
    return Schema([ColSpec(kind, name, required=required) for kind, name in pairs])


SIGNATURES = {
    "doubles": columns("double", "double", "double"),
    "floats": columns("float", "float", "float"),
    "longs": columns("long", "long", "long"),
    "integers": columns("integer", "integer", "integer"),
    "mixed": columns("double", "long", "double"),
    "float and double": columns("float", "double", "float"),
    "whole and whole": columns("long", "integer", "long"),
    "a flag": columns("double", "boolean", "double"),
    "text": columns("double", "string", "double"),
    "a date": columns("double", "datetime", "double"),
    "optional": columns("double", "double", "double", required=False),
    "a tensor": Schema([TensorSpec(np.dtype("float64"), (-1, 3))]),
    "none": None,
}
TRIED = [("doubles", name) for name in ESTIMATORS]
TRIED += [(name, "linear") for name in SIGNATURES if name != "doubles"]
TRIED += [("floats", "logistic"), ("longs", "forest"), ("mixed", "boosting")]
TAKES_SHORT = {"doubles", "floats", "longs", "integers", "mixed"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Pyfunc models with their short way, by signature and estimator."""
    made = {}
    place = tmp_path_factory.mktemp("models")

    def model(signature, name):
        if (signature, name) not in made:
            folder = place / f"{signature} {name}"
            estimator, target = ESTIMATORS[name]
            schema = SIGNATURES[signature]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                estimator.fit(ROWS, target)
                mlflow.sklearn.save_model(
                    estimator,
                    folder,
                    serialization_format="cloudpickle",  # trees are not trusted in another
                    signature=schema and ModelSignature(inputs=schema),
                )
                loaded = mlflow.pyfunc.load_model(str(folder))
                made[signature, name] = loaded, predictor.compiled(loaded)
        return made[signature, name]

    return model


@pytest.mark.parametrize(("signature", "name"), TRIED)
def test_only_what_is_proven_is_short(models, signature, name):
    _, fast = models(signature, name)
    assert (fast is not None) == (signature in TAKES_SHORT and name in SHORT)


NUMBERS = st.one_of(
    st.integers(-100, 100),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 1e308, 2**24 + 1, 2**31, 2**53 + 1, -(2**63), 2**64]),
)
ODD = st.one_of(
    st.none(), st.booleans(), st.sampled_from(["1.5", "x", "2026-01-02", float("nan"), [1], {}])
)
VALUES = st.one_of(NUMBERS, NUMBERS, NUMBERS, ODD)
GOOD = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=8)
ANY = st.lists(st.lists(VALUES, min_size=2, max_size=4), max_size=4)
ORDERS = st.sampled_from([NAMES, NAMES[::-1], [*NAMES, "d"], NAMES[:2], ["a", "a", "b"]])


@st.composite
def inputs(draw):
    rows = draw(st.one_of(GOOD, GOOD, ANY))
    form, names = draw(st.sampled_from(["rows", "split", "records", "columns"])), draw(ORDERS)
    if form == "rows":
        return rows
    if form == "split":
        table = {"columns": names, "data": rows}
        indexes = ([], list(range(len(rows))), ["x"] * len(rows))
        return {**table, **draw(st.sampled_from([{}, *({"index": one} for one in indexes)]))}
    if form == "records":
        return [dict(zip(names, row, strict=False)) for row in rows]
    return {
        name: [row[place] for row in rows if len(row) > place] for place, name in enumerate(NAMES)
    }


@pytest.mark.slow
@pytest.mark.parametrize(("signature", "name"), TRIED)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(input_data=inputs(), params=st.sampled_from([{}, {}, {"params": {}}, {"params": {"p": 1}}]))
@pytest.mark.filterwarnings("ignore")
def test_both_ways_come_to_the_same(models, signature, name, input_data, params):
    model, fast = models(signature, name)
    body = json.dumps({"input_data": input_data, **params}).encode()
    short, own = scoring.answer(model, body, fast), scoring.answer(model, body)
    assert (short.status, short.body) == (own.status, own.body)


@pytest.mark.parametrize("signature", sorted(TAKES_SHORT))
def test_the_short_way_is_taken_for_plain_rows(models, signature):
    _, fast = models(signature, "linear")
    for input_data in (
        [[1, 2, 3], [4, 5, 6]],
        {"columns": NAMES, "index": [0], "data": [[1, 2, 3]]},
        [{"c": 3, "a": 1, "b": 2}],
    ):
        is_whole = signature in ("longs", "integers", "mixed")
        assert fast({"input_data": input_data}) is not None
        assert fast({"input_data": [[1, None, 3]]}) is None
        assert (fast({"input_data": [[1, 2.5, 3]]}) is None) == is_whole


def test_parameters_take_mlflows_own_way(tmp_path):
    estimator = LinearRegression().fit(ROWS, CLASSES)
    params = ParamSchema([ParamSpec("p", "double", 1.0)])
    signature = ModelSignature(inputs=SIGNATURES["doubles"], params=params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(estimator, tmp_path / "m", signature=signature)
        fast = predictor.compiled(mlflow.pyfunc.load_model(str(tmp_path / "m")))
    assert fast({"input_data": [[1, 2, 3]], "params": {"p": 2}}) is None
    assert fast({"input_data": [[1, 2, 3]]}) is not None
