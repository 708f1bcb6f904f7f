"""What is shown live, and to whom."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aml_magics import display

VIEW = "application/vnd.jupyter.widget-view+json"


class Shell:
    """As much of a kernel's shell as says who looks on."""

    def __init__(self, allow_stdin):
        if allow_stdin is not None:
            self.kernel = SimpleNamespace(_allow_stdin=allow_stdin)


@pytest.mark.parametrize(
    ("allow_stdin", "environment", "live"),
    [
        (True, {}, True),
        (False, {}, False),  # nbclient, and with it papermill and nbconvert
        (None, {}, False),  # IPython in a terminal
        (True, {"CI": "true"}, False),
        (True, {"CI": "true", "AML_WIDGETS": "always"}, True),
        (True, {"AML_WIDGETS": "never"}, False),
    ],
)
def test_a_view_is_for_a_person_who_looks_on(allow_stdin, environment, live, monkeypatch):
    for name in ("CI", "AML_WIDGETS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert display.looked_at(Shell(allow_stdin)) is live


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as data."""
    found = []
    handle = SimpleNamespace(update=lambda data, **_: found.append(("update", data)))

    def put(data, *_, **options):
        found.append(("display", data))
        return handle if options.get("display_id") else None

    monkeypatch.setattr("IPython.display.display", put)
    return found


@pytest.fixture
def show(shell, monkeypatch):
    """Show a result as the last expression of a cell does."""

    def call(result, widgets):
        monkeypatch.setenv("AML_WIDGETS", widgets)
        display.offer(shell)
        return shell.display_formatter.format(result)[0]

    yield call
    monkeypatch.setenv("AML_WIDGETS", "never")
    display.offer(shell)


LOG = """
import mlflow
for step in range(3):
    mlflow.log_metric("loss", 3 - step, step=step)
print(" 50%|#####     | 5/10 [00:01<00:01]")
"""


@pytest.fixture(scope="module")
def jobs_done():
    """The job that the tests of this file look at, made once."""
    return []


@pytest.fixture
def logged(aml, jobs_done, capsys):
    if not jobs_done:
        jobs_done.append(aml("job -i C=1 --experiment live", LOG))
    return jobs_done[0]


def test_a_comparison_is_static_with_a_view_over_it(aml, logged, shown, show):
    found = aml("compare --experiment live --metric loss")
    show(found, "always")

    kinds = [set(data) for _, data in shown]
    assert "text/html" in kinds[0] and kinds[-1] == {VIEW, "text/plain"}
    assert "aml-static" in shown[0][1]["text/html"]
    shown.clear()
    show(found, "never")
    assert shown and not any(VIEW in data for _, data in shown)


def test_a_comparisons_view_reads_curves_and_artifacts(aml, logged):
    from aml_magics import live, session

    widget = live.comparison(aml("compare --experiment live --metric loss --goal max"))
    entered = session.current()

    assert [one["count"] for one in widget.series] == [3]
    assert (widget.origin["experiment"], widget.origin["goal"]) == ("live", "max")
    assert widget.view["metric"] == "loss"
    (path,) = [path for path in live.files(entered, logged.name) if path.endswith("std_log.txt")]
    assert b"5/10" in live.read(entered, logged.name, path)


def test_a_job_that_has_ended_is_its_record(logged, shown, show):
    show(logged, "always")
    assert [set(data) for _, data in shown] == [{"text/plain", "text/html", "text/markdown"}]


def test_a_jobs_card_follows_it_to_its_end(aml, shown, show):
    job = aml("job -i C=1 --experiment followed --no-wait", LOG)
    show(job, "always")

    from ipywidgets.widgets.widget import _instances

    (model,) = [data[VIEW]["model_id"] for _, data in shown if VIEW in data]
    card = _instances[model]
    assert card.wait(60)
    assert card.card["status"] == "Completed"
    assert card.card["progress"] == {"share": 0.5, "text": "5 of 10"}
    assert "5/10" in card.log
    assert [(one["metric"], one["count"]) for one in card.series] == [("loss", 3)]
    assert [what for what, _ in shown].count("display") == 2
    assert "Completed" in shown[-1][1]["text/plain"] and shown[-1][0] == "update"


PIPELINE = """
settings: {default_compute: azureml:cpu}
jobs:
  prep:
    command: echo prepared > ${{outputs.made}}/text
    environment: {image: none.invalid/none}
    outputs: {made: {type: uri_folder}}
  train:
    command: cat ${{inputs.before}}/text
    environment: {image: none.invalid/none}
    inputs: {before: "${{parent.jobs.prep.outputs.made}}"}
"""


def test_a_pipelines_card_has_its_steps_from_the_beginning(aml):
    from aml_magics import live

    states = []
    job = aml("pipeline --no-wait", PIPELINE)
    card = live.card(job, states.append)

    assert card.wait(60)
    assert {child["title"] for child in states[0].children} == {"prep", "train"}
    assert card.card["edges"] == [["prep", "train"]]
    assert [(c["title"], c["status"]) for c in card.card["children"]] == [
        ("prep", "Completed"),
        ("train", "Completed"),
    ]


SWEEP = """
trial: {command: "echo ${{search_space.depth}}", environment: {image: none.invalid/none}}
compute: azureml:cpu
sampling_algorithm: grid
search_space: {depth: {type: choice, values: [2, 8]}}
objective: {goal: maximize, primary_metric: acc}
limits: {max_total_trials: 2}
"""


def test_a_sweeps_card_has_the_parameters_of_its_trials(aml):
    from aml_magics import live

    card = live.card(aml("sweep --no-wait", SWEEP), lambda reading: None)
    assert card.wait(60)
    assert [child["detail"] for child in card.card["children"]] == ["depth=2", "depth=8"]
    assert card.card["edges"] == []


def test_a_card_cancels_its_job(aml, shown, show):
    job = aml("job -i C=1 --no-wait", "import time\ntime.sleep(600)")
    from aml_magics import live

    card = live.card(job, lambda reading: None)
    card._handle_custom_msg({"want": "cancel"}, [])
    assert card.wait(60)
    assert card.card["status"] == "Canceled" and not card.card["can_cancel"]
