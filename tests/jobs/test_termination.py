"""Early termination policies, by table and by property."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_magics.local.controllers.termination import best, due, policy, verdict

NAN = math.nan
BANDIT = {"policyType": "Bandit", "slackFactor": 0.2}
AMOUNT = {"policyType": "Bandit", "slackAmount": 0.1}
MEDIAN = {"policyType": "MedianStopping"}
TRUNCATION = {"policyType": "TruncationSelection", "truncationPercentage": 40}

# Policy, goal, what the trial has reported, what the others have, and whether it is ended.
VERDICTS = [
    (BANDIT, "max", [0.65], [[0.8]], True),  # Azure's own example: 0.8 / 1.2 is 0.66
    (BANDIT, "max", [0.67], [[0.8]], False),
    (BANDIT, "max", [0.67, 0.1], [[0.8, 0.8]], False),  # its best so far counts
    (BANDIT, "max", [0.1], [[0.8, 0.9], []], True),
    (BANDIT, "max", [0.1, 0.1], [[0.1, 0.1, 0.9]], False),  # what came later does not
    (BANDIT, "max", [0.1, 0.1], [[0.9]], False),  # nor what did not come that far
    (BANDIT, "min", [1.25], [[1.0]], True),
    (BANDIT, "min", [1.15], [[1.0]], False),
    (BANDIT, "max", [-1.3], [[-1.0]], True),
    (BANDIT, "max", [-1.1], [[-1.0]], False),
    (BANDIT, "min", [-0.5], [[-1.0]], True),
    (BANDIT, "max", [NAN], [[0.8]], True),
    (BANDIT, "max", [NAN], [[NAN]], False),
    (BANDIT, "max", [0.8], [], False),
    (AMOUNT, "max", [0.69], [[0.8]], True),
    (AMOUNT, "max", [0.71], [[0.8]], False),
    (AMOUNT, "min", [0.91], [[0.8]], True),
    (MEDIAN, "max", [1, 1], [[2, 4], [3, 3]], True),
    (MEDIAN, "max", [1, 3], [[2, 4], [3, 3]], False),  # its best is the median
    (MEDIAN, "min", [5, 4], [[2, 4], [3, 3]], True),
    (MEDIAN, "min", [5, 2], [[2, 4], [3, 3]], False),
    (MEDIAN, "max", [1], [], False),
    (TRUNCATION, "max", [2], [[1], [3], [4], [5]], True),  # two of five go
    (TRUNCATION, "max", [3], [[1], [2], [4], [5]], False),
    (TRUNCATION, "max", [9, 2], [[1, 1], [3, 3], [4, 4], [5, 5]], True),  # the last one counts
    (TRUNCATION, "min", [4], [[1], [2], [3], [5]], True),
    (TRUNCATION, "max", [1], [[2]], False),  # 40 % of two is none
    (TRUNCATION, "max", [1], [[1], [1], [1], [1]], False),  # none is lower
    (TRUNCATION, "max", [NAN], [[1], [3], [4], [5]], True),
]


@pytest.mark.parametrize(("asked", "goal", "mine", "others", "ends"), VERDICTS)
def test_who_is_ended(asked, goal, mine, others, ends):
    why = verdict(policy(asked), goal == "max", mine, others, len(mine))
    assert bool(why) is ends
    assert why is None or f"at interval {len(mine)}" in why


@pytest.mark.parametrize(
    ("interval", "delay", "looks"),
    [
        (1, 0, [1, 2, 3, 4, 5, 6]),
        (0, 0, [1, 2, 3, 4, 5, 6]),  # what the SDK sends when nothing is said
        (2, 0, [2, 4, 6]),
        (2, 3, [4, 6]),
        (1, 5, [5, 6]),
        (4, 5, []),
    ],
)
def test_when_a_policy_looks(interval, delay, looks):
    found = policy({**BANDIT, "evaluationInterval": interval, "delayEvaluation": delay})
    seen = [due(found, reports) for reports in range(7)]
    assert sorted({*seen} - {0}) == looks


values = st.lists(st.floats(-100, 100), min_size=3, max_size=3)


@given(
    st.lists(values, min_size=1, max_size=8),
    st.sampled_from([BANDIT, AMOUNT, MEDIAN, TRUNCATION]),
    st.booleans(),
)
def test_the_best_trial_is_never_ended_and_goals_mirror(curves, asked, maximizes):
    found = policy(asked)

    def ended(curves, maximizes):
        rest = [curves[:i] + curves[i + 1 :] for i in range(len(curves))]
        pairs = zip(curves, rest, strict=True)
        return [bool(verdict(found, maximizes, mine, others, 3)) for mine, others in pairs]

    order = max if maximizes else min
    last = found.kind == "TruncationSelection"
    tops = [curve[-1] if last else order(curve) for curve in curves]
    ends = ended(curves, maximizes)
    assert not ends[tops.index(order(tops))]
    assert ends == ended([[-value for value in curve] for curve in curves], not maximizes)


@given(st.lists(st.floats()))
def test_the_best_value_is_a_number(values):
    finite = [value for value in values if math.isfinite(value)]
    assert best(values, True) == (max(finite) if finite else None)
    assert best(values, False) == (min(finite) if finite else None)
