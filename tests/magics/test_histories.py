"""Histories and searches on every kind of tracking server: ours, MLflow's, Azure's."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from aml_magics import histories, rest, runs, searches
from aml_magics import session as sessions
from aml_magics.errors import BadInput

spec = importlib.util.spec_from_file_location("trackers", Path(__file__).parents[1] / "trackers.py")
trackers = importlib.util.module_from_spec(spec)
sys.modules["trackers"] = trackers
spec.loader.exec_module(trackers)


@pytest.fixture(scope="session")
def plain_url(tmp_path_factory):
    with trackers.mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="session")
def azure_url(plain_url):
    with trackers.as_little_as_azure(plain_url) as url:
        yield url


KINDS = {"sample": "aml", "bulk": "plain_url", "single": "azure_url"}


@pytest.fixture(
    params=["sample", *(pytest.param(k, marks=pytest.mark.slow) for k in ("bulk", "single"))]
)
def server(request, monkeypatch):
    """A session on a tracking server of each kind."""
    found = request.getfixturevalue(KINDS[request.param])
    server = sessions.current() if request.param == "sample" else trackers.session(found)
    assert histories.service(server) == request.param
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token())
    return server


@pytest.fixture
def tracking(server):
    url = rest._mlflow_root(server.tracking_uri)
    return MlflowClient(url)


@pytest.fixture
def experiment(tracking):
    name = f"e-{uuid4().hex[:8]}"
    return tracking.create_experiment(name), name


def begin(tracking, experiment, **curves):
    """A run with these curves: values, or pairs of step and value."""
    run = tracking.create_run(experiment[0]).info.run_id
    log(tracking, run, **curves)
    return run


def log(tracking, run, **curves):
    for key, values in curves.items():
        pairs = [v if isinstance(v, tuple) else (n, v) for n, v in enumerate(values)]
        metrics = [Metric(key, value, 1_000_000 + step, step) for step, value in pairs]
        for start in range(0, len(metrics), 1000):
            tracking.log_batch(run, metrics[start : start + 1000])


def values(table, run, metric):
    rows = table[(table["run"] == run) & (table["metric"] == metric)]
    return list(zip(rows["step"], rows["value"], strict=True))


def test_curves_come_as_they_were_logged(server, tracking, experiment):
    one = begin(tracking, experiment, loss=[3, 2, 1], once=[(7, 0.5)])
    two = begin(tracking, experiment, loss=[(0, 1), (2, 5), (1, 4), (1, 6)])
    none = begin(tracking, experiment)
    table = runs.history(server, [two, one, none], ["loss", "once", "nothing"])

    assert list(table.columns) == ["run", "metric", "step", "time", "relative", "value"]
    assert list(table["run"].unique()) == [two, one]
    assert values(table, one, "loss") == [(0, 3), (1, 2), (2, 1)]
    assert values(table, one, "once") == [(7, 0.5)]
    assert sorted(values(table, two, "loss")) == [(0, 1), (1, 4), (1, 6), (2, 5)]
    assert table["relative"].min() == 0 and table["time"].min().timestamp() == 1000


def test_nothing_logged_is_an_empty_table(server, tracking, experiment):
    assert len(runs.history(server, [begin(tracking, experiment)], ["loss"])) == 0
    assert len(runs.history(server, [], [])) == 0


def test_what_is_no_number_stays_so(server, tracking, experiment):
    run = begin(tracking, experiment, odd=[1.0, math.nan, math.inf, -math.inf])
    found = [value for _, value in values(runs.history(server, [run], ["odd"]), run, "odd")]

    assert found[0] == 1 and math.isnan(found[1]) and found[2:] == [math.inf, -math.inf]


def test_long_curves_are_bounded_and_whole_where_there_is_room(server, tracking, experiment):
    wave = [math.sin(step / 30) for step in range(3500)]
    wave[1234] = 9.0
    run = begin(tracking, experiment, wave=wave, short=range(100))
    table = runs.history(server, [run], ["wave", "short"], max_points=200)
    found = values(table, run, "wave")

    assert 100 <= len(found) <= 201 and len(values(table, run, "short")) == 100
    assert set(found) <= set(enumerate(wave))
    assert found[0] == (0, wave[0]) and found[-1] == (3499, wave[-1])
    if histories.service(server) != "bulk":  # MLflow's takes every n-th
        assert (1234, 9.0) in found


@pytest.mark.parametrize("x", ["time", "relative"])
def test_curves_are_ordered_by_what_they_are_drawn_by(server, tracking, experiment, x):
    run = begin(tracking, experiment)
    tracking.log_batch(run, [Metric("m", n, 9000 - n, n) for n in range(3)])
    table = runs.history(server, [run], ["m"], x=x)

    assert table["value"].tolist() == [2, 1, 0]
    assert table["relative"].tolist() == pytest.approx([0, 0.001, 0.002])


def test_a_refresh_fetches_only_what_has_grown(server, tracking, experiment, monkeypatch):
    still = begin(tracking, experiment, m=[1, 2])
    going = begin(tracking, experiment, m=[1, 2], n=[1])
    before = runs.history(server, [still, going], ["m", "n"])
    log(tracking, going, m=[(2, 3)])
    fetched = []
    read = histories.READERS[histories.service(server)]

    def watched(*arguments):
        for curve in read(*arguments):
            fetched.append((curve.run, curve.metric))
            yield curve

    monkeypatch.setitem(histories.READERS, histories.service(server), watched)
    after = runs.history(server, [still, going], ["m", "n"], since=before)

    assert fetched == [(going, "m")]
    assert values(after, going, "m") == [(0, 1), (1, 2), (2, 3)]
    assert values(after, still, "m") == [(0, 1), (1, 2)]
    monkeypatch.undo()
    assert after.equals(runs.history(server, [still, going], ["m", "n"]))


def test_runs_have_all_their_metrics(server, tracking, experiment):
    for n in range(3):
        run = begin(tracking, experiment, a=[n], b=[n + 0.5])
        tracking.log_batch(run, params=[Param("rate", f"{n}e-3"), Param("name", f"n{n}")])
        tracking.set_tag(run, "team", "blue")
        tracking.set_terminated(run)
    table = runs.runs(server, experiment=experiment[1], order_by="metrics.a ASC")

    assert table["metrics.a"].tolist() == [0, 1, 2]
    assert table["metrics.b"].tolist() == [0.5, 1.5, 2.5]
    assert table["params.rate"].tolist() == pytest.approx([0, 0.001, 0.002])
    assert table["params.name"].tolist() == ["n0", "n1", "n2"]
    assert table["tags.team"].tolist() == ["blue"] * 3
    assert set(table["status"]) == {"FINISHED"}
    assert [*map(len, (table["user"], table["job"]))] == [3, 3]


def test_more_runs_than_a_page_holds(server, tracking, experiment, monkeypatch):
    monkeypatch.setattr(searches, "PAGE", 2)
    made = [begin(tracking, experiment, m=[n]) for n in range(5)]

    assert set(runs.runs(server, experiment=experiment[1])["name"]) == set(made)
    assert len(runs.runs(server, experiment=experiment[1], limit=3)) == 3


def test_more_points_than_a_page_holds(server, tracking, experiment, monkeypatch):
    monkeypatch.setattr(histories, "PAGE", 7)
    monkeypatch.setattr(histories, "GROUP", 2)
    made = [begin(tracking, experiment, m=range(20)) for _ in range(3)]
    table = runs.history(server, made, ["m"])

    assert all(values(table, run, "m") == list(enumerate(range(20))) for run in made)


@pytest.mark.parametrize("wrong", [{"max_points": 3}, {"x": "epoch"}])
def test_a_wrong_question_is_refused(aml, wrong):
    with pytest.raises(BadInput, match="history"):
        runs.history(sessions.current(), ["a"], ["b"], **wrong)
