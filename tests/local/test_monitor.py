"""Latencies are those of all answers, also where only a sample of them is kept."""

import json
import random
from types import SimpleNamespace

import pytest

from aml_magics.local import monitor

ENDPOINT = "/workspaces/w/onlineEndpoints/Line"


@pytest.fixture
def value():
    """The value of a metric for latencies, in milliseconds, by status."""

    def call(name, by_status):
        some = []
        for latencies in by_status.values():
            some.append(monitor.Answers())
            for ms in latencies:
                some[-1].add(ms)
        return monitor.METRICS[name].of(some)

    return call


def test_each_answer_counts_once(value):
    mixed = {200: [10.0] * 9000, 500: [1000.0] * 1000}
    assert value("RequestLatency", mixed) == pytest.approx(109.0)
    assert [value(f"RequestLatency_P{p}", mixed) for p in (50, 90, 95, 99)] == [10, 10, 1000, 1000]
    few = {200: [10.0] * 20_000, 429: [1000.0] * 1000}
    assert value("RequestLatency", few) == pytest.approx(1_200_000 / 21_000)
    assert [value(f"RequestLatency_P{p}", few) for p in (90, 99)] == [10, 1000]


def test_a_sample_tells_the_mean_exactly(value):
    latencies = [float(ms) for ms in range(20_000)]
    random.Random(0).shuffle(latencies)
    assert value("RequestLatency", {200: latencies}) == pytest.approx(9999.5)
    assert value("RequestLatency_P50", {200: latencies}) == pytest.approx(10_000, rel=0.2)


@pytest.mark.parametrize(
    ("latencies", "percent", "expected"),
    [
        *(([1, 2], 50, 1), ([1, 2], 90, 2), (range(1, 101), 90, 90), (range(1, 101), 99, 99)),
        *(([7], 50, 7), ([7], 99, 7), ([3, 1, 2], 50, 2), (range(1, 21), 95, 19)),
    ],
)
def test_a_percentile_is_the_nearest_rank(value, latencies, percent, expected):
    assert value(f"RequestLatency_P{percent}", {200: latencies}) == expected


def test_without_answers_there_is_no_latency(value):
    assert value("RequestLatency", {}) is None and value("RequestLatency_P50", {}) is None


@pytest.fixture
def counted():
    found = monitor.Monitor()
    for deployment in ("Blue", "green"):
        found.add(ENDPOINT, deployment, 200, 1.0)
    return found


def names(found):
    return {key.deployment for key in found.answers(ENDPOINT.lower())}


def test_what_is_deleted_is_forgotten(counted):
    assert names(counted) == {"Blue", "green"}
    counted.forget(ENDPOINT.upper(), "BLUE")
    assert names(counted) == {"green"}
    counted.forget(ENDPOINT.upper())
    assert names(counted) == set()
    counted.forget("/never/seen")


@pytest.mark.parametrize("asked", ["Blue", "blue", "BLUE"])
def test_names_count_in_any_case_and_are_told_as_given(counted, asked):
    call = SimpleNamespace(
        arm_id=f"{ENDPOINT}/providers/microsoft.insights/metrics",
        local=SimpleNamespace(monitor=counted, store={ENDPOINT: "there"}),
        query={"metricnames": "RequestsPerMinute", "$filter": f"deployment eq '{asked}'"},
    )
    (metric,) = json.loads(monitor.metrics(call).body)["value"]
    (series,) = metric["timeseries"]
    assert series["metadatavalues"][0]["value"] == "Blue"


def test_a_deleted_workspace_is_forgotten():
    counted = monitor.Monitor()
    for workspace in ("w", "w2"):
        counted.add(f"/workspaces/{workspace}/onlineEndpoints/Line", "blue", 200, 1.0)
    counted.forget_below("/workspaces/W")
    assert counted.answers("/workspaces/w/onlineEndpoints/line") == {}
    assert len(counted.answers("/workspaces/w2/onlineEndpoints/line")) == 1
