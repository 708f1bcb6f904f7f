"""Search spaces and samplers of sweeps, by table and by property."""

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_magics.local.controllers.sampling import SAMPLERS, Past, Sampling, grid_size, sample
from aml_magics.local.controllers.spaces import listed, parameters, sizes, space, value

# Distribution, share of its probability, value below which that share is.
VALUES = [
    (["uniform", [1, 3]], 0.25, 1.5),
    (["loguniform", [-6, -1]], 0.5, math.exp(-3.5)),
    (["normal", [10, 2]], 0.5, 10.0),
    (["normal", [10, 0]], 0.9, 10),
    (["lognormal", [1, 3]], 0.5, math.e),
    (["quniform", [0, 10, 3]], 0.5, 6),
    (["quniform", [0, 1, 0.1]], 0.31, 0.3),
    (["qloguniform", [0, 5, 10]], 1.0, 150),
    (["qnormal", [5, 1, 2]], 0.9, 6),
    (["qlognormal", [2, 1, 4]], 0.5, 8),
    (["randint", [10]], 0.99, 9),
    (["randint", [10]], 0.0, 0),
    (["loguniform", ["-6", "-1.5"]], 0.0, math.exp(-6)),  # components come back as text
]


@pytest.mark.parametrize(("asked", "share", "expected"), VALUES)
def test_a_share_of_a_distribution_is_one_value(asked, share, expected):
    found = value(space({"x": asked})["x"], share)
    assert found == pytest.approx(expected)
    assert type(found) is type(expected) or asked[0] == "normal"


def test_a_logarithm_may_have_another_base():
    assert value(space({"x": ["loguniform", [-3, -1]]})["x"], 0.5, base=10) == pytest.approx(0.01)


PIPELINE = {
    "rate": {"type": "uniform", "min_value": 1, "max_value": 2},
    "shape": {
        "type": "choice",
        "values": [
            "flat",
            {
                "depth": 3,
                "width": {"type": "randint", "upper": 5},
                "act": {"type": "choice", "values": ["relu", "tanh"]},
            },
        ],
    },
    "noise": {"type": "qnormal", "mu": 0, "sigma": 1, "q": 0.5},
}
JOB = {
    "rate": ["uniform", [1, 2]],
    "shape": [
        "choice",
        [
            [
                "flat",
                {
                    "depth": 3,
                    "width": ["randint", [5]],
                    "act": ["choice", [["relu", "tanh"]]],
                },
            ]
        ],
    ],
    "noise": ["qnormal", [0, 1, 0.5]],
}


def test_the_space_of_a_pipeline_is_that_of_a_job():
    assert listed(PIPELINE) == JOB == listed(JOB)
    assert space(PIPELINE) == space(JOB)
    names = {"rate": 0, "shape": 2, "shape.1.width": 0, "shape.1.act": 2, "noise": 0}
    assert dict(sizes(space(JOB))) == names


def test_a_nested_space_is_drawn_from_where_it_is_chosen():
    found = parameters(
        space(JOB), lambda _, alternatives: alternatives - 1 if alternatives else 0.5
    )
    assert found.parameters["shape"] == {"depth": 3, "width": 2, "act": "tanh"}
    assert set(found.drawn) == {"rate", "shape", "shape.1.width", "shape.1.act", "noise"}
    flat = parameters(space(JOB), lambda _, alternatives: 0)
    assert flat.parameters["shape"] == "flat"
    assert set(flat.drawn) == {"rate", "shape", "noise"}


numbers = st.floats(-50, 50)
DISTRIBUTIONS = st.one_of(
    st.tuples(numbers, st.floats(0, 50)).map(lambda p: ["uniform", [p[0], p[0] + p[1]]]),
    st.tuples(numbers, st.floats(0, 50)).map(lambda p: ["loguniform", [p[0], p[0] + p[1]]]),
    st.tuples(numbers, st.floats(0, 50)).map(lambda p: ["lognormal", list(p)]),
    st.tuples(numbers, st.floats(0, 50), st.floats(0.01, 9)).map(lambda p: ["qnormal", list(p)]),
    st.integers(1, 1000).map(lambda upper: ["randint", [upper]]),
)


@given(DISTRIBUTIONS, st.floats(0, 1), st.floats(0, 1))
def test_more_probability_is_no_smaller_value(asked, one, other):
    distribution = space({"x": asked})["x"]
    low, high = (value(distribution, share) for share in sorted((one, other)))
    assert low <= high
    assert math.isfinite(low) and math.isfinite(high)


@given(
    low=numbers,
    width=st.floats(0.1, 50),
    kind=st.sampled_from(["random", "sobol", "bayesian"]),
    seed=st.text(),
)
@settings(max_examples=20, deadline=None)
def test_samples_are_within_their_bounds_and_the_same_again(low, width, kind, seed):
    found = space({"x": ["uniform", [low, low + width]], "n": ["randint", [4]], "c": JOB["shape"]})
    how, past = Sampling(kind, seed), []
    for number in range(7):
        one = sample(found, how, number, past)
        assert one == sample(found, how, number, past)
        assert low <= one.parameters["x"] <= low + width
        assert one.parameters["n"] in range(4)
        past.append(Past(one.drawn, number % 3 > 0, None if number % 2 else one.parameters["x"]))


@pytest.mark.parametrize("kind", sorted({*SAMPLERS} - {"grid"}))
def test_another_seed_gives_other_trials(kind):
    found = space({"x": ["uniform", [0, 1]]})
    one, other = ([sample(found, Sampling(kind, s), i, []) for i in range(3)] for s in ("1", "2"))
    assert not {x.parameters["x"] for x in one} & {x.parameters["x"] for x in other}


def test_samples_follow_their_distribution():
    found = space({"x": ["normal", [3, 2]], "c": ["choice", [["a", "b"]]]})
    for kind in ("random", "sobol"):
        drawn = [sample(found, Sampling(kind, "s"), i, []).parameters for i in range(256)]
        assert statistics.fmean(d["x"] for d in drawn) == pytest.approx(3, abs=0.4)
        assert statistics.stdev(d["x"] for d in drawn) == pytest.approx(2, abs=0.3)
        assert 96 < sum(d["c"] == "a" for d in drawn) < 160


def test_sobol_points_fill_a_space_evenly():
    found = space({"x": ["uniform", [0, 1]], "y": ["uniform", [0, 1]]})
    drawn = [sample(found, Sampling("sobol", "7"), i, []).parameters for i in range(16)]
    assert len({(int(d["x"] * 4), int(d["y"] * 4)) for d in drawn}) == 16


def test_a_grid_has_every_point_once():
    found = space(
        {"a": ["choice", [[1, 2]]], "c": ["choice", [["p", {"k": ["choice", [[3, 4]]]}]]]}
    )
    points = [sample(found, Sampling("grid", ""), i, []) for i in range(7)]
    assert [p and p.parameters for p in points] == [
        {"a": 1, "c": "p"},
        {"a": 1, "c": {"k": 3}},
        {"a": 1, "c": {"k": 4}},
        {"a": 2, "c": "p"},
        {"a": 2, "c": {"k": 3}},
        {"a": 2, "c": {"k": 4}},
        None,
    ]
    assert (grid_size(found, 100), grid_size(found, 4)) == (6, 4)


def test_a_bayesian_sampler_learns():
    """It beats random sampling where the good values are a small part of the space."""
    found = space({"x": ["loguniform", [-10, 10]], "c": ["choice", [list("abcd")]]})

    def cost(p):
        return (math.log(p["x"]) - 3) ** 2 + (0 if p["c"] == "c" else 20)

    def costs(kind, trials=40):
        past = []
        for number in range(trials):
            one = sample(found, Sampling(kind, "s"), number, past)
            past.append(Past(one.drawn, True, cost(one.parameters)))
        return [p.score for p in past]

    assert statistics.fmean(costs("bayesian")[20:]) < 0.5 * statistics.fmean(costs("random")[20:])
