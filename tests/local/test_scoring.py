"""The process of a deployment by itself: tensors, parameters and what JSON cannot hold."""

import datetime
import json
import math
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from aml_magics.local import scoring

# A model on tensors that takes a parameter and fails when it is told to.
SAVE = """
import sys
import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

class Scale(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if params["factor"] < 0:
            raise RuntimeError("negative")
        return model_input * params["factor"]

signature = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype("float64"), (-1, 2))]),
    params=ParamSchema([ParamSpec("factor", "double", 1.0)]))
mlflow.pyfunc.save_model(sys.argv[1], python_model=Scale(), signature=signature)
"""


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NUMBER = r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,4})?"
# JSON and what is nearly JSON.
TEXTS = VALUES.map(json.dumps) | st.from_regex(NUMBER, fullmatch=True) | st.text()
LONG = f"[0.{'1' * 19}, {'1' * 40}]"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server of that model."""
    folder = tmp_path_factory.mktemp("scale")
    command = [sys.executable, "-c", SAVE, str(folder / "model")]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=120)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "aml_magics.local.scoring", "--model", folder / "model"]
    with subprocess.Popen([*command, "--port", port], stderr=subprocess.DEVNULL) as server:
        while not is_open(int(port)):
            assert server.poll() is None
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        ({"input_data": [[1, 2], [3, 4]]}, 200, [[1.0, 2.0], [3.0, 4.0]]),
        ({"input_data": [[1, 2]], "params": {"factor": 3}}, 200, [[3.0, 6.0]]),
        ({"input_data": [[1, None]]}, 200, [[1.0, None]]),
        ({"input_data": [[1, 2, 3]]}, 400, "shape"),
        ({"input_data": [[1, 2]], "params": {"factor": "much"}}, 400, "factor"),
        ({"input_data": [[1, 2]], "params": {"factor": -1}}, 500, "RuntimeError: negative"),
    ],
)
def test_tensors_and_parameters(url, body, status, answer):
    scored = requests.post(f"{url}/score", json=body, timeout=60)
    assert scored.status_code == status
    if status == 200:
        assert scored.json() == answer
    else:
        assert answer in scored.json()["error"]["message"]


def test_it_says_that_it_lives_and_what_it_takes(url):
    assert requests.get(url, timeout=60).text == "Healthy"
    assert "/score" in requests.get(f"{url}/swagger.json", timeout=60).json()["paths"]


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (np.array([1, 2]), [1, 2]),
        (np.array([[0.5, math.nan]]), [[0.5, None]]),
        (np.float32(0.5), 0.5),
        (pd.Series([True, False]), [{"0": True}, {"0": False}]),
        (pd.Series([1.5], name="rate"), [{"rate": 1.5}]),
        (pd.DataFrame({"at": [pd.Timestamp("2026-01-02T03:04")]}), [{"at": "2026-01-02T03:04:00"}]),
        (b"abc", "YWJj\n"),
        (pd.DataFrame({"a": [1], "b": ["x"]}), [{"a": 1, "b": "x"}]),
        ({"a": np.array([1]), 2: None}, {"a": [1], "2": None}),
        ([datetime.date(2026, 1, 2), math.inf], ["2026-01-02", None]),
        ("text", "text"),
    ],
)
def test_every_prediction_becomes_json(prediction, expected):
    assert scoring.plain(prediction) == expected
    json.dumps(scoring.plain(prediction), allow_nan=False)


@given(TEXTS)
def test_a_request_is_read_as_the_standard_library_reads_it(text):
    body = f'{{"input_data": {text}}}'.encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(body)
    except ValueError:
        with pytest.raises(scoring.BadInput):
            scoring.read(body)
    else:
        assert repr(scoring.read(body)) == repr(expected)


@pytest.mark.parametrize(
    "number", ["18446744073709551616", "-9223372036854775809", "1e400", "NaN", LONG]
)
def test_numbers_that_few_readers_have_are_kept(number):
    body = f'{{"input_data": {number}}}'.encode()
    assert repr(scoring.read(body)) == repr(json.loads(body))


def test_an_environment_without_the_fast_reader_serves_too(monkeypatch):
    monkeypatch.setattr(scoring, "orjson", None)
    assert scoring.read(b'{"input_data": [1.5]}') == {"input_data": [1.5]}
