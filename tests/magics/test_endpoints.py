"""A model registered from a job, deployed, asked and deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from aml_magics.endpoints import body_of
from aml_magics.errors import BadInput, NotFound, Refused

TRAIN = """
import mlflow, pandas as pd
from sklearn.linear_model import LinearRegression
X = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
model = LinearRegression().fit(X, [1.0, 3.0, 5.0])
signature = mlflow.models.infer_signature(X, model.predict(X))
mlflow.sklearn.save_model(model, "line", signature=signature)
mlflow.log_artifacts("line", "line")
"""
ASKED = {
    "a DataFrame": pd.DataFrame({"x": [3.0, 4.0]}),
    "records": [{"x": 3.0}, {"x": 4.0}],
    "a request": {"input_data": {"columns": ["x"], "index": [0, 1], "data": [[3.0], [4.0]]}},
}


def test_from_a_job_to_an_answer(aml, shell, capsys, fails):
    job = aml("job", TRAIN)
    shell.user_ns["job"] = job
    model = aml("register $job --name line --tags owner=me")
    assert (model.name, model.version, model.type) == ("line", "1", "mlflow_model")
    assert "line" in list(aml("model list")["name"])
    aml("model download -n line -v 1 -p here")
    assert list(Path("here").rglob("MLmodel"))

    capsys.readouterr()
    endpoint = aml("deploy line:1 --endpoint line-endpoint")
    assert "deployment blue … ready" in capsys.readouterr().out
    assert endpoint.traffic == {"blue": 100}

    for value in ASKED.values():
        shell.user_ns["value"] = value
        assert aml("invoke line-endpoint $value") == pytest.approx([7.0, 9.0])
    Path("request.json").write_text(json.dumps(ASKED["a request"]))
    for line in (
        "invoke line-endpoint request.json",
        "invoke line-endpoint $value -d blue",
        "online-endpoint invoke -n line-endpoint --request-file request.json",
    ):
        assert aml(line) == pytest.approx([7.0, 9.0])

    keys = aml("online-endpoint get-credentials -n line-endpoint")
    assert keys.primary_key.value not in repr(keys) + keys._repr_html_()
    assert keys.primary_key.value not in aml(
        "online-endpoint get-credentials line-endpoint -O json"
    )
    assert isinstance(aml("online-deployment get-logs -n blue -e line-endpoint"), str)
    assert list(aml("online-deployment list -e line-endpoint")["name"]) == ["blue"]

    wrong = fails("invoke line-endpoint '{\"y\": 1}'")
    assert isinstance(wrong, Refused) and "endpoint logs line-endpoint" in wrong.hint

    aml("online-endpoint delete -n line-endpoint --yes")
    assert isinstance(fails("invoke line-endpoint $value"), NotFound)


def test_an_unknown_model_cannot_be_deployed(fails):
    assert isinstance(fails("deploy nothing:1 --endpoint e"), NotFound)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"a": 1, "b": "x"}, {"columns": ["a", "b"], "index": [0], "data": [[1, "x"]]}),
        ([[1, 2]], [[1, 2]]),
        ('{"input_data": [1]}', [1]),
        ("[[1.5]]", [[1.5]]),
        (
            pd.DataFrame({"x": [1e-12, 1 / 3], "n": [1, 2], "s": ["a", None]}),
            {
                "index": [0, 1],
                "columns": ["x", "n", "s"],
                "data": [[1e-12, 1, "a"], [1 / 3, 2, None]],
            },
        ),
    ],
)
def test_a_value_is_sent_in_the_form_mlflow_servers_take(value, body):
    assert body_of(value) == {"input_data": body}


def test_a_missing_or_broken_file_is_refused(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for name, words in {"missing.json": "no such file", str(broken): "not JSON"}.items():
        with pytest.raises(BadInput, match=words):
            body_of(name)
