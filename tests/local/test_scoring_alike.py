"""A deployment and MLflow's own scoring server hand the same to a model, whatever its signature."""

import json
import warnings

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array, Map, Object, Property

from aml_magics.local import scoring

with warnings.catch_warnings():  # about type hints
    warnings.simplefilter("ignore")
    from mlflow.pyfunc import scoring_server


def described(data):
    """What a model was given: its form, types and values, as text."""
    if isinstance(data, pd.DataFrame):
        columns = [(str(name), str(data[name].dtype)) for name in data]
        return {"columns": columns, "values": [[*map(repr, row)] for row in data.values.tolist()]}
    if isinstance(data, np.ndarray):
        return {"dtype": str(data.dtype), "shape": data.shape, "values": repr(data.tolist())}
    if isinstance(data, dict):
        return {key: described(value) for key, value in data.items()}
    return repr(data)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")

    class Echo(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return [json.dumps([described(model_input), repr(params)])]


def tensor(kind, *shape, name=None):
    return TensorSpec(np.dtype(kind), shape, name)


SIGNATURES = {
    "columns of many types": Schema(
        [
            ColSpec("double", "a"),
            ColSpec("string", "b"),
            ColSpec("boolean", "c"),
            ColSpec("long", "d", required=False),
            ColSpec("datetime", "e", required=False),
        ]
    ),
    "all optional": Schema(
        [ColSpec(kind, kind[0], required=False) for kind in ("float", "string")]
    ),
    "whole": Schema([ColSpec("integer", "a"), ColSpec("long", "b")]),
    "no names": Schema([ColSpec("double"), ColSpec("double")]),
    "lists and objects": Schema(
        [
            ColSpec(Array(DataType.double), "a"),
            ColSpec(Object([Property("x", DataType.long)]), "b"),
            ColSpec(Map(DataType.string), "c", required=False),
        ]
    ),
    "a tensor": Schema([tensor("float64", -1, 2)]),
    "a tensor of whole numbers": Schema([tensor("int64", -1)]),
    "tensors with names": Schema(
        [tensor("float32", -1, 2, name="u"), tensor("int32", -1, name="v")]
    ),
    "none": None,
}
PARAMS = ParamSchema(
    [
        ParamSpec("rate", "double", 0.5),
        ParamSpec("word", "string", "x"),
        ParamSpec("many", "long", [1, 2], shape=(-1,)),
    ]
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Pyfunc models that tell what they were given, by signature."""
    made = {}

    def model(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("echo") / "model"
            schema = SIGNATURES[name]
            params = PARAMS if name in {"whole", "a tensor"} else None
            signature = ModelSignature(inputs=schema, params=params) if schema else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mlflow.pyfunc.save_model(
                    folder, python_model=Echo(), signature=signature, pip_requirements=[]
                )
                made[name] = mlflow.pyfunc.load_model(str(folder))
        return made[name]

    return model


NUMBERS = st.one_of(st.integers(-9, 9), st.floats(-9, 9), st.sampled_from([2**40, 1e300, 0.1]))
ODD = st.sampled_from([None, True, "x", "1.5", "2026-01-02", "2026-01-02T03:04:05Z", float("nan")])
LISTS = st.lists(NUMBERS, max_size=3)
OBJECTS = st.dictionaries(st.sampled_from(["x", "y"]), st.one_of(NUMBERS, ODD), max_size=2)
OF_TYPES = {
    "double": st.floats(-9, 9),
    "float": st.floats(-9, 9, width=32),
    "long": st.integers(-9, 9),
    "integer": st.integers(-9, 9),
    "string": st.sampled_from(["", "x", "ü"]),
    "boolean": st.booleans(),
    "datetime": st.sampled_from(["2026-01-02", "2026-01-02T03:04:05"]),
    "Array": st.lists(st.floats(-9, 9), min_size=1, max_size=3),
    "Object": st.fixed_dictionaries({"x": st.integers(-9, 9)}),
    "Map": st.dictionaries(st.sampled_from(["k", "l"]), st.just("v"), min_size=1),
}
ASKED = st.sampled_from(
    [None, None, {}, {"rate": 2.0}, {"rate": 1.5, "word": "y", "many": [3]}, {"rate": "x"}]
)


def value_of(column, is_fit):
    """What fits a column, or anything."""
    fits = OF_TYPES[getattr(column.type, "name", type(column.type).__name__)]
    return fits if is_fit else st.one_of(fits, NUMBERS, ODD, LISTS, OBJECTS)


@st.composite
def tables(draw, schema):
    """A table in one of the forms of both servers: the key there, and its body."""
    columns = schema.inputs if schema else [ColSpec("double", "a"), ColSpec("string", "b")]
    names = [str(column.name or place) for place, column in enumerate(columns)]
    kept = draw(st.sampled_from([names, names, names, names[::-1], names[:-1], [*names, "more"]]))
    own, is_fit = dict(zip(names, columns, strict=True)), draw(st.integers(0, 2)) > 0
    row = st.tuples(*(value_of(own[name], is_fit) if name in own else NUMBERS for name in kept))
    rows = draw(st.lists(row, min_size=1, max_size=4))
    if draw(st.booleans()):
        return "dataframe_split", {"columns": kept, "data": [list(row) for row in rows]}
    return "dataframe_records", [dict(zip(kept, row, strict=True)) for row in rows]


@st.composite
def tensors(draw, schema):
    """A tensor or tensors by name, of the right shape more often than not."""
    is_fit = draw(st.integers(0, 2)) > 0

    def values(spec):
        width = spec.shape[1] if len(spec.shape) > 1 else 0
        number = st.integers(-9, 9) if is_fit and spec.type.kind == "i" else NUMBERS
        one = st.lists(number, min_size=width, max_size=width) if width else number
        some = one if is_fit else st.one_of(one, LISTS, NUMBERS)
        return draw(st.lists(some, min_size=1, max_size=4))

    if schema.has_input_names():
        return "inputs", {spec.name: values(spec) for spec in schema.inputs}
    return "inputs", values(schema.inputs[0])


@st.composite
def requests(draw, schema):
    is_tensor = schema is not None and schema.is_tensor_spec()
    key, body = draw(tensors(schema) if is_tensor else tables(schema))
    params = draw(ASKED)
    return key, body, {} if params is None else {"params": params}


def theirs(model, key, body, params):
    """What MLflow's server answers, None when it refuses or fails."""
    document = json.dumps({key: body, **params})
    schema = model.metadata.get_input_schema()
    try:
        answer = scoring_server.invocations(document, "application/json", model, schema)
    except MlflowException:
        return None
    return json.loads(answer.response)["predictions"] if answer.status == 200 else None


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNATURES)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_model_is_given_the_same(models, name, data):
    model = models(name)
    key, body, params = data.draw(requests(SIGNATURES[name]))
    expected = theirs(model, key, body, params)
    answer = scoring.answer(model, json.dumps({"input_data": body, **params}).encode())
    assert (answer.status == 200) == (expected is not None), answer.body
    if expected is not None:
        assert json.loads(answer.body) == expected
