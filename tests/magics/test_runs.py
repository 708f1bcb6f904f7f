"""Runs listed and compared."""

from __future__ import annotations

import pytest

from aml_magics import runs
from aml_magics.errors import BadCommand, NotFound

TRAIN = """
import mlflow
mlflow.log_params({"C": C, "epochs": 3})
for step in range(3):
    mlflow.log_metric("val_loss", (4 - step) * C, step=step)
mlflow.log_metric("accuracy", 1 - C)
"""


@pytest.fixture(scope="module")
def trained():
    """Names of two runs of the experiment `trees`, made once."""
    return []


@pytest.fixture
def names(aml, trained, capsys):
    for value in () if trained else (0.5, 0.1):
        line = f"job -i C={value} --experiment trees --display-name C{value}"
        trained.append(aml(line, TRAIN).name)
    capsys.readouterr()
    return trained


def test_runs_show_parameters_and_last_metrics(aml, names):
    table = aml("runs trees").set_index("name")

    assert list(table.index) == [names[1], names[0]]
    assert table.loc[names[0], ["params.C", "val_loss", "accuracy"]].tolist() == ["0.5", 1.0, 0.5]
    assert len(aml("runs trees -r 1")) == 1


def test_a_comparison_puts_the_best_first_and_shows_what_differs(aml, names):
    found = aml("compare --experiment trees --metric val_loss")

    assert found.best == names[1]
    assert list(found.table.columns) == ["run", "display name", "val_loss", "C"]
    assert found.table["val_loss"].tolist() == pytest.approx([0.2, 1.0])
    assert found.curves[names[0]] == [(0, 2.0), (1, 1.5), (2, 1.0)]
    assert "less is better" in repr(found) and "0.2 ★ best" in repr(found)
    assert "<b>★ best</b>" in found._repr_html_()
    assert "| C0.1 | 0.2 ★ best | 0.1 |" in found._repr_markdown_()


def test_the_goal_follows_the_metric_or_the_flag(aml, names):
    line = f"compare {' '.join(names)} --metric accuracy"

    assert aml(line).best == names[1]
    assert aml(f"{line} --goal min").best == names[0]


def test_curves_are_a_png_with_a_text_for_it(aml, names, shell, capsys):
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda *a, **k: shown.append((a[0], k)))
        aml("compare --experiment trees --metric val_loss")._ipython_display_()
    (table, _), (chart, options) = shown

    assert {"text/plain", "text/html", "text/markdown"} == set(table)
    assert chart["image/png"].startswith("iVBOR")
    assert options["metadata"]["image/png"]["alt"] == chart["text/plain"]
    assert "best: C0.1 with 0.2" in chart["text/plain"]


@pytest.mark.parametrize(
    ("metric", "goal"),
    [("val_loss", "min"), ("rmse", "min"), ("accuracy", "max"), ("train-error", "min")],
)
def test_a_metrics_name_tells_which_way_is_better(metric, goal):
    assert runs.guess_goal(metric) == goal


WRONG = {
    "compare --metric m": (BadCommand, "--metric m"),
    "compare --experiment nothing --metric m": (NotFound, "nothing"),
    "compare --experiment trees --metric los": (NotFound, "logged: accuracy, val_loss"),
    "compare nothing --metric m": (NotFound, "nothing"),
    "runs nothing": (NotFound, "nothing"),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be_compared_says_why(line, fails, names):
    kind, words = WRONG[line]
    error = fails(line)

    assert type(error) is kind
    assert words in "\n".join(error._render_traceback_())
