"""Models deployed: what is planned, what is asked before traffic, shares, failures, clean-up."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from aml_magics import deploying, endpoints, session, traffic
from aml_magics.errors import (
    AmlError,
    BadCommand,
    BadInput,
    DeploymentFailed,
    NotFound,
    Refused,
)
from tests.conftest import wait_until

MODELS = """
import mlflow, pandas as pd
from sklearn.linear_model import LinearRegression
X = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
signature = mlflow.models.infer_signature(X, [0.0])
for name, slope in (("double", 2), ("treble", 3)):
    model = LinearRegression().fit(X, [0, slope, 2 * slope])
    mlflow.sklearn.save_model(model, name, signature=signature, input_example=X.tail(2))
    mlflow.log_artifacts(name, name)
class Broken(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        import no_such_package
    def predict(self, context, model_input):
        return model_input
class Fussy(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        raise ValueError("never today")
for name, model in (("broken", Broken()), ("fussy", Fussy())):
    mlflow.pyfunc.save_model(name, python_model=model, signature=signature)
    mlflow.log_artifacts(name, name)
Fussy.predict = lambda self, context, model_input: model_input
"""
SCRIPT = """
import json, os
def init():
    global factor
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "factor.txt")) as file:
        factor = float(file.read()) * float(os.environ["SCALE"])
def run(data):
    return [factor * value for value in json.loads(data)["values"]]
"""


@pytest.fixture(scope="module")
def registered():
    return set()


@pytest.fixture
def models(aml, workspace, registered):
    """Two models of one input, one that does not load, one that answers nothing."""
    if workspace not in registered:
        job = aml("job", MODELS)
        for name in ("double", "treble", "broken", "fussy"):
            aml(f"register {job.name} --artifact {name} --alias champion")
        registered.add(workspace)


@pytest.fixture
def endpoint(aml, models, request):
    """Name of an endpoint of the test's own, which is gone when it ends."""
    name = "e-" + "".join(c for c in request.node.name.lower() if c.isalnum())[5:30]
    yield name
    if name in list(aml("online-endpoint list")["name"]):
        aml(f"endpoint delete {name} --yes")


def test_from_blue_to_green_and_back(aml, endpoint, capsys, shell, complete):
    first = aml(f"deploy double@champion --endpoint {endpoint}")
    told = capsys.readouterr().out
    assert first.traffic == {"blue": 100}
    assert "asked with its input example: it answers" in told
    assert f"%aml endpoint delete {endpoint} --yes" in told
    assert endpoint in list(aml("endpoint list").name)

    second = aml(f"deploy treble --endpoint {endpoint} --deployment green --traffic 10")
    assert second.traffic == {"blue": 90, "green": 10}
    shown = repr(aml(f"endpoint show {endpoint}"))
    assert "90 %  double:1  Succeeded" in shown and "10 %  treble:1  Succeeded" in shown

    assert aml(f"traffic {endpoint} blue=0 green=100").traffic["green"] == 100
    shell.user_ns["rows"] = pd.DataFrame({"x": [1.0]})
    assert aml(f"invoke {endpoint} $rows") == pytest.approx([3.0])
    assert aml(f"invoke {endpoint} $rows -d blue") == pytest.approx([2.0])
    assert aml(f"invoke {endpoint}") == pytest.approx([3.0, 6.0])  # the model's own example

    back = aml(f"rollback {endpoint}").traffic
    assert back["blue"] == 90 and back["green"] == 10
    assert aml(f"rollback {endpoint}").traffic["green"] == 100

    mirrored = aml(f"traffic {endpoint} green=100 --mirror blue=10")
    assert mirrored.mirror_traffic == {"blue": 10}
    assert not aml(f"traffic {endpoint} --mirror blue=0").mirror_traffic

    capsys.readouterr()
    table = aml(f"endpoint test {endpoint} --rows 40 --concurrency 4")
    assert "40 requests in" in capsys.readouterr().out
    assert list(table.index) == ["200"] and table.requests["200"] == 40
    assert 0 < table.p50_ms["200"] <= table.p99_ms["200"] <= table.max_ms["200"]

    counted = aml(f"endpoint metrics {endpoint}")
    assert counted.groupby("deployment").requests.sum().to_dict() == {"blue": 2, "green": 43}
    assert (counted.p50_ms <= counted.p95_ms).all() and (counted.p50_ms > 0).all()

    assert complete(f"%aml traffic {endpoint} b") == ["blue="]
    assert complete(f"%aml invoke {endpoint} $rows -d g") == ["green"]
    assert complete(f"%aml deploy double -e {endpoint} -d g") == ["green"]

    logs = aml(f"endpoint logs {endpoint}")
    assert "── blue ──" in logs and "── green ──" in logs
    assert aml(f"endpoint logs {endpoint} --deployment green") in logs


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ([], ["a"], ["a"]),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b"], ["b", "c"], ["c"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a", "b"], ["a", "b"], []),
        (["a"], ["x", "y"], ["x", "y"]),
    ],
)
def test_lines_of_a_followed_log_are_told_once(before, now, new):
    assert endpoints.after(before, now) == new


def test_metrics_of_an_endpoint_that_nobody_asks(aml, fails, endpoint):
    aml(f"online-endpoint create -n {endpoint}")
    assert aml(f"endpoint metrics {endpoint} --minutes 5").empty
    assert isinstance(fails("endpoint metrics none"), NotFound)
    assert isinstance(fails(f"endpoint metrics {endpoint} --minutes 0"), BadCommand)


def test_a_log_is_followed_until_interrupted(aml, endpoint):
    aml(f"deploy double --endpoint {endpoint}")
    told = []

    def tell(text):
        told.append(text)
        signal.raise_signal(signal.SIGINT)

    done = endpoints.logs(session.current(), tell=tell, endpoint=endpoint, follow=True)
    assert "not following" in repr(done) and told[0].startswith("blue  ")


def test_new_lines_of_a_followed_log_are_told_as_they_come(aml, fails, endpoint):
    """A request that the model refuses is a line in its log."""
    aml(f"deploy double --endpoint {endpoint}")
    told = []

    def tell(text):
        told.append(text)
        if len(told) == 1:
            fails(
                f"""invoke {endpoint} '{{"input_data": {{"columns": ["none"], "data": [[1]]}}}}'"""
            )
        else:
            signal.raise_signal(signal.SIGINT)

    endpoints.logs(session.current(), tell=tell, endpoint=endpoint, follow=True)
    assert "WARNING" not in told[0] and "missing inputs ['x']" in told[1]
    assert "Serving" in told[0] and "Serving" not in told[1]


def test_what_is_not_waited_for_goes_on(aml, endpoint):
    done = aml(f"deploy double --endpoint {endpoint} --no-wait")

    def is_ready():
        (shown,) = aml(f"endpoint show {endpoint}").deployments
        return shown["provisioning_state"] == "Succeeded"

    wait_until(is_ready)
    assert not any(aml(f"endpoint show {endpoint}").traffic.values())
    line = str(done).rpartition("%aml ")[2]  # what it says to type then
    assert aml(line).traffic == {"blue": 100}


def test_what_is_not_said_again_stays_as_it_is(aml, endpoint):
    aml(f"deploy double --endpoint {endpoint} --instances 2 --env-var A=1 --env-var B=1")
    update = f"online-deployment update -n blue -e {endpoint} --set"
    aml(f"{update} request_settings.request_timeout_ms=9000 readiness_probe.period=7")
    aml(f"deploy models:/treble/1 --endpoint {endpoint} --env-var B=2")
    blue = aml(f"online-deployment show -n blue -e {endpoint}")

    assert (blue.instance_count, blue.environment_variables) == (2, {"A": "1", "B": "2"})
    assert blue.request_settings["request_timeout_ms"] == 9000
    assert blue.readiness_probe["period"] == 7
    assert aml(f"invoke {endpoint}") == pytest.approx([3.0, 6.0])


def test_numbers_are_set_as_numbers(aml, endpoint):
    aml(f"deploy double --endpoint {endpoint}")
    aml(f"online-deployment update -n blue -e {endpoint} --set instance_count=2 tags.n=3")
    blue = aml(f"online-deployment show -n blue -e {endpoint}")
    assert (blue.instance_count, blue.tags) == (2, {"n": "3"})
    aml(f"deploy treble --endpoint {endpoint} -d green")
    line = f"online-endpoint update -n {endpoint} --set traffic.blue=60 traffic.green=40"
    assert aml(line).traffic == {"blue": 60, "green": 40}
    assert aml(f"online-endpoint update -n {endpoint} --traffic 'blue=100 green=0'")
    mirrored = aml(f"online-endpoint update -n {endpoint} --mirror-traffic green=10")
    assert mirrored.mirror_traffic == {"green": 10}


def test_traffic_alone_tells_the_shares_and_a_copy_excludes_one(aml, fails, endpoint):
    aml(f"deploy double --endpoint {endpoint}")
    aml(f"deploy treble --endpoint {endpoint} -d green")
    assert aml(f"traffic {endpoint}").traffic["blue"] == 100
    aml(f"traffic {endpoint} --mirror green=10")
    assert "--mirror green=0" in fails(f"traffic {endpoint} green=100").hint
    line = f"traffic {endpoint} --mirror green=0 green=100"
    assert aml(line).traffic["green"] == 100


def test_what_has_failed_gets_no_traffic(aml, fails, endpoint):
    aml(f"deploy double --endpoint {endpoint}")
    fails(f"deploy broken --endpoint {endpoint} -d red")
    assert "has failed" in str(fails(f"traffic {endpoint} blue=50 red=50"))
    shares = aml(f"deploy treble --endpoint {endpoint} -d green --traffic 10").traffic
    assert {name: share for name, share in shares.items() if share} == {"blue": 90, "green": 10}


def test_what_fails_to_change_goes_on_as_it_was(aml, fails, endpoint):
    aml(f"deploy double --endpoint {endpoint}")
    error = fails(f"deploy broken --endpoint {endpoint}")
    assert "goes on serving double/1" in str(error)
    assert "100 %  double:1  Failed" in repr(aml(f"endpoint show {endpoint}"))
    assert aml(f"invoke {endpoint}") == pytest.approx([2.0, 4.0])


def test_a_refused_deployment_leaves_no_endpoint(aml, fails, models, monkeypatch):
    def refuse(*_args, **_options):
        raise Refused("no such size")

    monkeypatch.setattr(deploying, "_entity", refuse)
    error = fails("deploy double --endpoint refused")
    assert "nothing was made" in error.hint
    assert "refused" not in list(aml("endpoint list")["name"])


def test_no_dots_are_printed_once_nobody_waits(aml, endpoint, capsys):
    done = aml(f"deploy double --endpoint {endpoint} --no-wait")
    assert f"traffic {endpoint} blue=100" in repr(done)
    capsys.readouterr()
    wait_until(lambda: "Succeeded" in repr(aml(f"endpoint show {endpoint}")), 60)
    assert "." not in capsys.readouterr().out
    aml(repr(done).rpartition("%aml ")[2])
    told = repr(aml(f"deploy treble --endpoint {endpoint} -d green --no-wait"))
    assert f"%aml endpoint show {endpoint}" in told


def test_a_dry_run_says_what_would_be_done_and_does_nothing(aml, models):
    text = aml("deploy double --env-var A=1 --instance-count 2 --dry-run")

    endpoint, deployment = yaml.safe_load_all(text)
    assert endpoint == {"name": "double", "auth_mode": "key"}
    assert deployment["environment_variables"] == {"A": "1"}
    assert (deployment["endpoint_name"], deployment["instance_count"]) == ("double", 2)
    assert "traffic: none → blue=100" in text
    assert "double" not in list(aml("online-endpoint list")["name"])


def test_what_does_not_load_says_why_and_what_is_left(fails, endpoint):
    error = fails(f"deploy broken --endpoint {endpoint}")

    assert isinstance(error, DeploymentFailed)
    assert "no package no_such_package" in error.hint
    assert f"endpoint logs {endpoint} --deployment blue" in error.hint
    assert f"endpoint delete {endpoint} --yes" in error.hint
    assert "no_such_package" in "\n".join(error.detail)


def test_what_does_not_answer_its_example_gets_no_traffic(aml, fails, endpoint, job_of_example):
    error = fails(f"deploy silent --endpoint {endpoint}")

    assert isinstance(error, DeploymentFailed) and "gets no traffic" in str(error)
    assert not aml(f"endpoint show {endpoint}").traffic.get("blue")


@pytest.fixture
def job_of_example(aml, models):
    """A model `silent`, which fails for its own input example."""
    job = aml(
        "job",
        "import json, mlflow, pandas as pd\nfrom pathlib import Path\n"
        "from sklearn.linear_model import LinearRegression\n"
        "X = pd.DataFrame({'x': [0.0, 1.0]})\n"
        "signature = mlflow.models.infer_signature(X, [0.0])\n"
        "model = LinearRegression().fit(X, [0, 1])\n"
        "mlflow.sklearn.save_model(model, 'silent', signature=signature, input_example=X)\n"
        "example = {'dataframe_split': {'columns': ['y'], 'data': [[1.0]]}}\n"
        "Path('silent/serving_input_example.json').write_text(json.dumps(example))\n"
        "mlflow.log_artifacts('silent', 'silent')\n",
    )
    return aml(f"register {job.name}")


def test_other_package_versions_are_told(aml, endpoint, tmp_path, capsys):
    import mlflow

    job = aml("job show " + aml("model show double:1").job_name)
    mlflow.artifacts.download_artifacts(
        run_id=job.name, artifact_path="double", dst_path=str(tmp_path)
    )
    path = tmp_path / "double" / "requirements.txt"
    path.write_text(path.read_text() + "\npandas==0.1\n")
    aml(f"register {tmp_path / 'double'} --name older")
    capsys.readouterr()
    aml(f"deploy older --endpoint {endpoint}")
    told = capsys.readouterr().out
    assert "Other package versions" in told and "(asked for: 0.1)" in told


def test_a_row_made_from_the_signature_decides_nothing(aml, endpoint, capsys):
    made = aml(f"deploy fussy --endpoint {endpoint}")

    assert "made from its signature: " in capsys.readouterr().out
    assert made.traffic == {"blue": 100}


def test_a_scoring_script_serves_what_is_no_mlflow_model(aml, fails, endpoint):
    Path("factor.txt").write_text("3")
    Path("src").mkdir()
    Path("src/score.py").write_text(SCRIPT)
    aml("register factor.txt --name factor")
    aml(
        f"deploy factor --endpoint {endpoint} --code src --scoring-script score.py "
        "--env-var SCALE=2 --environment azureml://registries/azureml/environments/sklearn-1.5/labels/latest"
    )
    asked = """ '{"values": [1, 2]}' """
    assert aml(f"invoke {endpoint}{asked}") == pytest.approx([6.0, 12.0])
    assert "scoring script" in str(fails(f"invoke {endpoint}"))
    aml(f"deploy factor --endpoint {endpoint} --env-var SCALE=3")  # with the script it has
    assert aml(f"invoke {endpoint}{asked}") == pytest.approx([9.0, 18.0])


REFUSED = {
    "an unknown model": ("deploy nothing --endpoint some", NotFound),
    "an unknown version": ("deploy double:77 --endpoint some", NotFound),
    "a deployment with a space": ("deploy double --endpoint some --deployment 'x y'", BadInput),
    "no instance": ("deploy double --endpoint some --instances 0", BadInput),
    "more instances than there are": ("deploy double --endpoint some -c 5000", AmlError),
    "no folder": ("deploy double --endpoint some --code no --scoring-script s.py", BadInput),
    "no script": ("deploy double --endpoint some --code . --scoring-script s.py", BadInput),
    "no environment": ("deploy double --endpoint some --environment none@latest", NotFound),
    "to delete what is not there": ("endpoint delete some --yes", NotFound),
    "a question of nothing": ("online-endpoint invoke -n some", BadCommand),
    "an unknown alias": ("deploy double@none --endpoint some", NotFound),
    "a short name": ("deploy double --endpoint e", BadInput),
    "a name with _": ("deploy double --endpoint a_b_c", BadInput),
    "a name of 33": (f"deploy double --endpoint {'a' * 33}", BadInput),
    "traffic of words": ("deploy double --endpoint some --traffic most", BadCommand),
    "too much traffic": ("deploy double --endpoint some --traffic 101", BadCommand),
    "a first one with a part": ("deploy double --endpoint some --traffic 10", BadCommand),
    "a script without code": ("deploy double --endpoint some --scoring-script s.py", BadCommand),
    "a typo": ("deploy double --enpoint some", BadCommand),
    "shares of 90": ("traffic some blue=90", BadCommand),
    "shares of 110": ("traffic some blue=100 green=10", BadCommand),
    "no share": ("traffic some blue", BadCommand),
    "half a percent": ("traffic some blue=99.5 green=0.5", BadCommand),
    "traffic of nothing": ("traffic some blue=100", NotFound),
    "back on nothing": ("rollback some", NotFound),
    "asking nobody": ("invoke some '[1]'", NotFound),
    "no JSON": ("invoke some '[1'", BadInput),
    "no file": ("invoke some table.csv", BadInput),
    "a test of nobody": ("endpoint test some", NotFound),
    "a test by none": ("endpoint test some --concurrency 0", BadCommand),
    "logs of nobody": ("endpoint logs some", NotFound),
    "to delete without yes": ("endpoint delete some", BadCommand),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_made(aml, models, fails, name):
    line, kind = REFUSED[name]
    assert isinstance(fails(line), kind)
    assert not set(aml("online-endpoint list")["name"]) & {"some", "e", "a_b_c", "a" * 33}


ASKED = {
    "other columns": pd.DataFrame({"y": [1.0]}),
    "text for numbers": pd.DataFrame({"x": ["a"]}),
    "no columns": pd.DataFrame(),
    "something else": {"input_data": "text"},
}


def test_what_an_endpoint_cannot_use_is_refused_as_it_answers(aml, fails, endpoint, shell):
    aml(f"deploy double --endpoint {endpoint}")
    for what, value in ASKED.items():
        shell.user_ns["value"] = value
        error = fails(f"invoke {endpoint} $value")
        assert isinstance(error, Refused) and "endpoint logs" in error.hint, what
    assert isinstance(fails(f"invoke {endpoint} '[[1]]' -d green"), NotFound)
    unknown = fails(f"traffic {endpoint} blue=50 gren=50")
    assert "gren" in str(unknown) and "it has blue" in unknown.hint
    assert "not changed before" in str(fails(f"rollback {endpoint}"))
    assert isinstance(fails(f"online-deployment delete -n blue -e {endpoint} --yes"), AmlError)
    assert aml(f"endpoint show {endpoint}").traffic == {"blue": 100}


SHARES = [
    ({"blue": 100}, 10, {"blue": 90, "green": 10}),
    ({"blue": 50, "red": 50}, 1, {"blue": 50, "red": 49, "green": 1}),
    ({"blue": 33, "red": 33, "green": 34}, 0, {"blue": 50, "red": 50, "green": 0}),
    ({"blue": 100, "red": 0}, 100, {"blue": 0, "green": 100}),
    ({}, 100, {"green": 100}),
    ({}, 0, {"green": 0}),
]


@pytest.mark.parametrize(
    ("percent", "now", "shares"),
    [
        (10, {"blue": 50, "red": 50}, {"blue": 45, "red": 45, "green": 10}),
        (None, {"blue": 50, "red": 50}, {"blue": 50, "red": 50}),
        (None, {}, {"green": 100}),
    ],
)
def test_shares_that_others_have_moved_meanwhile_are_kept(percent, now, shares):
    plan = deploying.Plan("e", False, {}, {"green": 100}, {"name": "green"}, percent)
    assert plan.shares(now) == shares


@pytest.mark.parametrize(("before", "percent", "after"), SHARES)
def test_a_share_is_taken_from_the_others_as_they_have_it(before, percent, after):
    assert traffic.with_share(before, "green", percent) == after


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("breast-cancer", "breast-cancer"),
        ("My_Model.v2", "my-model-v2"),
        ("2nd", "m-2nd"),
        ("m", "m-endpoint"),
        ("x" * 60, "x" * 32),
        ("a" * 31 + "_b", "a" * 31),
    ],
)
def test_an_endpoint_is_named_after_its_model(model, name):
    assert deploying.default_name(model) == name
    deploying.check_name(name)


def test_numbers_dates_and_what_is_missing_are_sent(aml, endpoint, shell):
    aml(f"deploy double --endpoint {endpoint}")
    shell.user_ns["row"] = {"x": np.float64(2)}
    assert aml(f"invoke {endpoint} $row") == pytest.approx([4.0])
    pd.DataFrame({"x": [3.0, 4.0]}).to_csv("new.csv", index=False)
    assert aml(f"invoke {endpoint} new.csv") == pytest.approx([6.0, 8.0])
    shell.user_ns["series"] = pd.Series({"x": 5.0})
    assert aml(f"invoke {endpoint} $series") == pytest.approx([10.0])


def test_a_batch_endpoint_gives_its_predictions_as_a_table(aml, fails, models, shell):
    pd.DataFrame({"x": [3.0, 4.0]}).to_csv("new.csv", index=False)
    endpoint = aml("batch deploy double")
    assert (endpoint.name, endpoint.defaults["deployment_name"]) == ("double-batch", "blue")
    table = aml("batch invoke double-batch new.csv")

    assert list(table.prediction) == pytest.approx([6.0, 8.0])
    assert list(table.file) == ["new.csv", "new.csv"]
    shell.user_ns["table"] = pd.DataFrame({"x": [5.0]})
    assert list(aml("batch invoke double-batch $table").prediction) == pytest.approx([10.0])
    pd.DataFrame({"y": [3.0]}).to_csv("other.csv", index=False)
    assert "job stream" in fails("batch invoke double-batch other.csv").hint
    assert aml(f"job show {table.attrs['job']}").status == "Completed"
    aml("batch-endpoint delete -n double-batch --yes")


def test_a_model_that_is_not_mlflows_needs_a_script(aml, fails):
    Path("weights.txt").write_text("1")
    aml("register weights.txt")
    for line in ("deploy weights", "batch deploy weights"):
        assert "no MLflow model" in str(fails(line))
    assert json.loads(aml("online-endpoint list -O json")) == []
