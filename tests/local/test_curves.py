"""Curves ready to draw: few points, no extreme lost, only what was logged."""

from __future__ import annotations

import json
import math
import sqlite3

import numpy as np
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Metric

from aml_magics.local import curves, sampling


def points(values, steps=None):
    steps = range(len(values)) if steps is None else steps
    return np.array([(step, 1000 + step, value) for step, value in zip(steps, values, strict=True)])


def grown(of, *, by=700):
    curve = sampling.begin()
    for start in range(0, len(of), by):
        curve = sampling.grow(curve, of[start : start + by])
    return curve


@pytest.mark.parametrize("by", [1, 7, 2048, 50_000])
def test_what_is_kept_of_a_curve_does_not_grow_with_it(by):
    values = np.random.default_rng(1).normal(size=50_000 if by > 1 else 5_000)
    values[1234] = 99
    curve = grown(points(values), by=by)
    kept = curve.points()

    assert curve.logged == len(values)
    assert len(kept) <= sampling.KEPT + 1 + curve.stride
    assert kept[[0, -1], 2].tolist() == [values[0], values[-1]]
    assert (kept[:, 2].min(), kept[:, 2].max()) == (values.min(), 99)
    assert {tuple(row) for row in kept} <= {tuple(row) for row in points(values)}


@settings(deadline=None)
@given(st.lists(st.floats(width=32), max_size=300), st.integers(4, 60), st.integers(1, 90))
def test_a_sample_has_the_ends_and_the_extremes(values, max_points, by):
    all_of_them = points(values) if values else sampling.begin().kept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "KEPT", 64)
        sampled = sampling.sample(grown(all_of_them, by=by).points(), max_points)

    assert len(sampled) <= max_points
    assert {row.tobytes() for row in sampled} <= {row.tobytes() for row in all_of_them}
    assert np.all(np.diff(sampled[:, 0]) > 0)
    if values:
        assert sampled[0].tobytes() == all_of_them[0].tobytes()
        assert sampled[-1].tobytes() == all_of_them[-1].tobytes()
    numbers = [value for value in values if not math.isnan(value)]
    if numbers:
        assert np.nanmin(sampled[:, 2]) == min(numbers)
        assert np.nanmax(sampled[:, 2]) == max(numbers)


def test_steps_that_go_back_are_told_of_once_points_are_left_out():
    forth = points(range(5000))
    few = grown(points(range(100), reversed(range(100))), by=9)
    assert few.stands_for(1000) and few.points()[:, 0].tolist() == list(range(100))
    assert grown(forth).stands_for(1000)
    assert not grown(np.concatenate([forth, forth[:50]])).stands_for(1000)
    assert not grown(forth).stands_for(2000)


@pytest.fixture
def tracking(connection):
    return MlflowClient(connection.tracking_uri)


@pytest.fixture
def ask(connection, address):
    """Ask for sampled histories: values by run and metric, and how many points were logged."""
    scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]
    url = f"{address.url}/mlflow/v1.0{scope}/ajax-api/2.0/mlflow/metrics/sample-histories"

    def send(runs, keys, **more):
        body = {"run_ids": runs, "metric_keys": keys, **more}
        headers = {"Authorization": f"Bearer {connection.token}"}
        answer = requests.post(url, json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        line, _, rest = answer.content.partition(b"\n")
        head = json.loads(line)
        table = np.frombuffer(rest).reshape(3, -1)
        ends = np.cumsum(head["lengths"])[:-1]
        parts = np.split(table, ends, axis=1) if head["lengths"] else []
        rows = zip(head["runs"], head["metrics"], head["logged"], parts, strict=True)
        return {(runs[run], keys[key]): (part.T, logged) for run, key, logged, part in rows}

    return send


def log(tracking, run, key, values, steps=None):
    steps = list(range(len(values)) if steps is None else steps)
    metrics = [
        Metric(key, v, 1000 + n, s) for n, (v, s) in enumerate(zip(values, steps, strict=True))
    ]
    for start in range(0, len(metrics), 1000):
        tracking.log_batch(run, metrics[start : start + 1000])


@pytest.fixture
def run(tracking):
    return tracking.create_run(tracking.create_experiment("curves")).info.run_id


def test_a_long_curve_comes_with_its_peak(ask, tracking, run):
    values = [math.sin(step / 50) for step in range(6000)]
    values[4321] = 5.0
    log(tracking, run, "wave", values)
    log(tracking, run, "once", [0.5], [7])
    found = ask([run, "none"], ["wave", "once", "nothing"], max_points=100)

    wave, logged = found[run, "wave"]
    assert logged == 6000 and len(wave) <= 100
    assert [4321, 5321, 5.0] in wave.tolist()
    assert wave[[0, -1], 0].tolist() == [0, 5999]
    assert found[run, "once"][0].tolist() == [[7, 1000, 0.5]]
    assert set(found) == {(run, "wave"), (run, "once")}
    assert len(ask([run], ["wave"], max_points=100_000)[run, "wave"][0]) == 6000


def test_only_curves_that_have_grown_come_again(ask, tracking, run):
    log(tracking, run, "a", [1, 2])
    log(tracking, run, "b", [1, 2, 3])
    known = {run: {"a": 2, "b": 3}}
    assert ask([run], ["a", "b"], known=known) == {}
    log(tracking, run, "b", [4], [3])
    assert list(ask([run], ["a", "b"], known=known)) == [(run, "b")]


def test_odd_values_and_steps_come_as_they_were_logged(ask, tracking, run):
    values = [1.0, math.nan, math.inf, -math.inf, 2.0, 3.0]
    log(tracking, run, "odd", values, [0, 1, 2, 3, 5, 4])
    log(tracking, run, "again", [1, 2, 3, 4], [0, 1, 1, 0])
    log(tracking, run, "back", [*range(4000), *range(4000)], [*range(4000), *range(4000)])
    found = ask([run], ["odd", "again", "back"])

    odd = found[run, "odd"][0]
    assert odd[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(odd[:, 2], [1, math.nan, math.inf, -math.inf, 3, 2], equal_nan=True)
    assert found[run, "again"][0][:, [0, 2]].tolist() == [[0, 1], [0, 4], [1, 2], [1, 3]]
    back = found[run, "back"][0]
    assert len(back) <= 1000 and np.all(np.diff(back[:, 0]) >= 0)


def test_a_database_of_curves_that_is_lost_is_made_again(ask, tracking, run, address):
    log(tracking, run, "a", range(5000))
    before = ask([run], ["a"])[run, "a"][0]
    for path in (address.home / "mlflow").glob("*.curves*"):
        path.unlink()
    assert np.array_equal(ask([run], ["a"])[run, "a"][0], before)


def test_metrics_that_were_removed_are_forgotten(tmp_path):
    database = tmp_path / "m.db"
    with sqlite3.connect(database) as rows:
        rows.execute("CREATE TABLE metrics (run_uuid, key, step, timestamp, value, is_nan)")
        insert = "INSERT INTO metrics VALUES (?, 'a', ?, 0, 1.0, 0)"
        rows.executemany(insert, [(run, step) for run in "xy" for step in range(10)])
    kept = curves.Curves(database)
    assert [c.logged for _, _, c in kept.of(["x", "y"], ["a"], {})] == [10, 10]
    with sqlite3.connect(database) as rows:
        rows.execute("DELETE FROM metrics WHERE run_uuid = 'y'")
    assert [c.logged for _, _, c in kept.of(["x", "y"], ["a"], {})] == [10]


def test_mlflow_itself_finds_a_curve_by_its_run(ask, run, address):
    for path in (address.home / "mlflow").glob("*.db"):
        with sqlite3.connect(path) as rows:
            query = "SELECT * FROM metrics WHERE run_uuid = 'a' AND key = 'b'"
            plan = str(rows.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
        assert "index_metrics_run_uuid_key_step" in plan


@pytest.mark.parametrize(
    "wrong",
    [
        {"run_ids": "a"},
        {"metric_keys": [1]},
        {"max_points": 3},
        {"max_points": "10"},
        {"known": [1]},
        {"known": {"a": 5}},
    ],
)
def test_a_wrong_question_is_refused(arm, connection, wrong):
    scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]
    path = f"/mlflow/v1.0{scope}/ajax-api/2.0/mlflow/metrics/sample-histories"
    answer = arm("POST", path, {"run_ids": ["a"], "metric_keys": ["b"], **wrong})
    assert answer.status_code == 400 and next(iter(wrong)) in answer.text
