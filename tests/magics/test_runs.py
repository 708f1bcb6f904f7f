"""Runs listed and compared."""

from __future__ import annotations

import pytest

from aml_magics import runs
from aml_magics.errors import BadCommand, NotFound, Refused

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
    columns = ["params.C", "metrics.val_loss", "metrics.accuracy"]
    assert table.loc[names[0], columns].tolist() == [0.5, 1.0, 0.5]
    assert table.loc[names[0], ["display_name", "status", "job"]].tolist() == [
        "C0.5",
        "FINISHED",
        names[0],
    ]
    assert table["duration"].gt(0).all() and str(table["start_time"].dt.tz) == "UTC"
    assert len(aml("runs trees -r 1")) == 1


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ('trees --filter "metrics.val_loss < 0.5"', ["C0.1"]),
        ("trees --order-by 'params.C DESC'", ["C0.5", "C0.1"]),
        ("trees --top 1 --by val_loss", ["C0.1"]),
        ("--top 5 --by accuracy", ["C0.1", "C0.5"]),
        ("trees --top 5 --by nothing", []),
    ],
)
def test_runs_are_filtered_and_ordered(aml, names, flags, found):
    assert aml(f"runs {flags}")["display_name"].tolist() == found


def test_a_comparison_puts_the_best_first_and_shows_what_differs(aml, names):
    found = aml("compare --experiment trees --metric val_loss")

    assert found.best == names[1]
    assert list(found.table.columns) == ["run", "display name", "val_loss", "C"]
    assert found.table["val_loss"].tolist() == pytest.approx([0.2, 1.0])
    assert found.df["name"].tolist() == [names[1], names[0]]
    assert "val_loss ↓" in repr(found) and "0.2 ★ best" in repr(found)
    assert "<b>★ best</b>" in found._repr_html_()
    assert "| C0.1 | 0.2 ★ best | 0.1 |" in found._repr_markdown_()
    assert "epochs" in aml("compare --experiment trees --metric val_loss --all").table


def test_a_comparison_has_the_curves_as_a_table(aml, names):
    rows = aml(f"compare {names[0]} --metric val_loss accuracy").history
    values = [tuple(row) for row in rows[["run", "metric", "step", "value"]].to_numpy()]

    assert values == [
        *((names[0], "val_loss", step, value) for step, value in enumerate((2.0, 1.5, 1.0))),
        (names[0], "accuracy", 0, 0.5),
    ]


def test_without_a_metric_all_are_shown(aml, names):
    found = aml("compare --experiment trees")

    assert found.metrics == ["val_loss", "accuracy"]
    assert repr(found).count("★ best") == 2
    assert aml("compare --experiment trees --top 1 --by accuracy").df["name"].tolist() == names[1:]


def test_a_variable_that_holds_runs_names_them(aml, names, shell):
    shell.user_ns["chosen"] = names
    shell.user_ns["one"] = aml(f"job show {names[0]}")

    assert len(aml("compare $chosen").rows) == 2
    assert [row["name"] for row in aml("compare $one").rows] == names[:1]


def test_a_pipeline_stands_for_its_children(aml, names, capsys):
    step = "{type: command, command: 'STEP', environment: {image: none.invalid/none}, compute: any}"
    python = 'python -c "import mlflow; mlflow.log_metric(chr(109), VALUE)"'
    steps = [
        f"  {name}: " + step.replace("STEP", python.replace("VALUE", value))
        for name, value in {"first": "1", "second": "2"}.items()
    ]
    parent = aml("pipeline", "\n".join(["experiment_name: steps", "jobs:", *steps]))
    found = aml(f"compare {parent.name} --metric m")

    assert [row["m"] for row in found.rows] == [2.0, 1.0]
    assert parent.name not in {row["name"] for row in found.rows}


def test_the_goal_follows_the_metric_or_the_flag(aml, names):
    line = f"compare {' '.join(names)} --metric accuracy"

    assert aml(line).best == names[1]
    assert aml(f"{line} --goal min").best == names[0]


def test_the_goal_decides_which_are_the_top_ones(aml, names):
    line = "compare --experiment trees --metric accuracy --top 1"

    assert aml(line).best == names[1]
    assert aml(f"{line} --goal min").best == names[0]


SAME_NAME = """
import mlflow
mlflow.log_params({"rate": C, "status": C})
mlflow.log_metrics({"rate": C / 2, "name": 2.0})
"""


def test_a_parameter_and_a_metric_may_have_one_name(alone):
    made = [alone(f"job -i C={value} --experiment same", SAME_NAME).name for value in (1, 2)]
    found = alone("compare --experiment same --metric rate")

    assert found.best == made[1] and "FINISHED" not in found.table.columns
    assert found.table["rate"].tolist() == [1.0, 0.5]
    assert found.table["params.rate"].tolist() == ["2", "1"]
    assert "params.rate" in repr(found)


@pytest.fixture(scope="module")
def logged():
    """Runs logged straight to the tracking server: name of an experiment → ids, made once."""
    return {}


@pytest.fixture
def log(aml, logged):
    """Log runs of an experiment: for each its display name, parameters and metrics."""
    from mlflow import MlflowClient

    from aml_magics import session

    def make(experiment, runs, tags=None):
        if experiment not in logged:
            client = MlflowClient(session.current().tracking_uri)
            place = client.create_experiment(experiment)
            logged[experiment] = [_log(client, place, *run, tags or {}) for run in runs]
        return logged[experiment]

    return make


def _log(client, place, name, params, metrics, tags):
    from mlflow.entities import Metric, Param, RunTag

    run = client.create_run(place, run_name=name).info.run_id
    client.log_batch(
        run,
        [Metric(key, value, 0, 0) for key, value in metrics.items()],
        [Param(key, str(value)) for key, value in params.items()],
        [RunTag(key, value) for key, value in tags.items()],
    )
    client.set_terminated(run)
    return run


def test_all_runs_of_an_experiment_are_compared(aml, log):
    ids = log("many", [(f"m{n}", {"n": n}, {"auc": n % 59 / 100}) for n in range(120)])

    assert len(aml("runs many")) == 120
    assert aml("compare --experiment many").rows[0]["auc"] == 0.58
    part = aml("compare --experiment many --max-results 50")
    assert repr(part).startswith("the newest 50 of more runs by auc")
    assert {row["name"] for row in part.rows} == set(ids[70:])
    shown = repr(aml("compare --experiment many"))
    assert "120 runs" in shown and ".df has all" in shown and len(shown.splitlines()) == 102


MIXED = (
    ("m-a", {"C": 1, "kind": "x"}, {"auc": 0.5, "time": 3.0}),
    ("m-b", {"C": 2, "kind": "y"}, {"auc": 0.9, "time": 9.0}),
    ("m-c", {"C": 4, "kind": "x"}, {"other": 1.0}),
    ("m-d", {"C": 8, "kind": "y"}, {"auc": float("nan")}),
)


def test_runs_without_the_metric_come_last(aml, log):
    ids = log("mixed", MIXED)
    shown = aml("compare --experiment mixed --metric auc")

    assert shown.best == ids[1]
    assert [row["display_name"] for row in shown.rows][:2] == ["m-b", "m-a"]
    assert len(shown.rows) == 4
    assert "NaN" in repr(shown)
    assert len(aml(f"compare {ids[0]} {ids[2]} --metric auc").rows) == 2
    assert len(aml("compare --experiment mixed --metric auc --top 2").rows) == 2


def test_each_metric_marks_its_own_best(aml, log):
    ids = log("mixed", MIXED)
    shown = aml("compare --experiment mixed --metric auc,time")

    assert shown.metrics == ["auc", "time"]
    assert shown._bests() == {"auc": ids[1], "time": ids[0]}


def test_runs_without_metrics_are_compared_by_parameters(aml, log, capsys):
    log("bare", [("a", {"C": 1}, {}), ("b", {"C": 2}, {})])
    shown = aml("compare --experiment bare")
    shown._ipython_display_()

    assert (shown.best, shown.metric, shown.pictures()) == ("", "", [])
    assert "2 runs, which have logged no metric" in repr(shown)
    assert list(shown.table.columns) == ["run", "display name", "C"]


def test_a_name_is_a_run_by_id_or_as_it_is_called_or_an_experiment(aml, log, fails, shell):
    ids = log("mixed", MIXED)
    shell.user_ns["df"] = aml("runs mixed").query("`params.kind` == 'x'")

    assert [row["name"] for row in aml("compare m-a m-b --metric auc").rows] == [ids[1], ids[0]]
    assert len(aml("compare mixed --metric auc").rows) == 4
    assert {row["display_name"] for row in aml("compare $df").rows} == {"m-a", "m-c"}
    log("twins", [("twin", {}, {"m": 1.0}), ("twin", {}, {"m": 2.0})])
    assert "several runs are called 'twin'" in str(fails("compare twin"))
    assert "did you mean 'mixed'" in fails("compare --experiment mixd").hint
    assert "did you mean 'mixed'" in fails("compare mixd").hint


def test_a_baseline_is_what_the_others_differ_from(aml, log):
    ids = log("mixed", MIXED)
    shown = aml("compare m-a m-b --metric auc --baseline m-a")

    assert shown.view.baseline == ids[0]
    assert "0.9 ★ best (+0.4)" in repr(shown) and "against m-a" in repr(shown)
    top = aml("compare mixed --top 1 --by auc --baseline m-a")  # which is not among the top
    assert [row["display_name"] for row in top.rows] == ["m-b", "m-a"]


def test_runs_are_grouped_by_a_parameter(aml, log):
    log("mixed", MIXED)
    found = aml("compare --experiment mixed --metric auc --group-by kind")
    heads = [line.split()[:3] for line in repr(found).splitlines() if "means" in line]
    (axes,), (legend,) = found.figure.axes, found.figure.legends

    assert heads == [["kind", "=", "y"], ["kind", "=", "x"]]
    assert "2 runs, means" in repr(found)
    assert [text.get_text() for text in legend.get_texts()] == ["kind = y ★", "kind = x"]
    assert len({line.get_color() for line in axes.get_lines()}) == 2
    assert "coloured by kind" in found.alt


def test_what_a_sweep_has_chosen_is_a_parameter(aml, log):
    log("chosen", [("trial", {"C": 1}, {"m": 1.0})], {"hyperparameters": '{"depth": 3}'})
    table = aml("runs chosen")

    assert table["params.depth"].tolist() == [3] and not table.filter(like="tags.").columns.size
    assert "depth" in aml("compare --experiment chosen --all").table


def test_a_deleted_run_says_so(aml, log):
    from mlflow import MlflowClient

    from aml_magics import session

    ids = log("gone", [("a", {}, {"m": 1.0}), ("b", {}, {"m": 2.0})])
    MlflowClient(session.current().tracking_uri).delete_run(ids[0])
    assert "DELETED" in repr(aml(f"compare {' '.join(ids)}"))


WILD = (
    ("huge", {}, {"m": 1e300}),
    ("none", {}, {"m": float("nan")}),
    ("below", {}, {"m": float("-inf")}),
    ("模型", {}, {"m": -1.0}),
)


@pytest.mark.parametrize("flags", ["", "--log"])
def test_wild_values_are_drawn_without_a_warning(aml, log, flags, recwarn):
    log("wild", WILD)
    shown = aml(f"compare --experiment wild {flags}")

    assert all(image.startswith(b"\x89PNG") for _, image in shown.pictures())
    assert "-∞" in repr(shown) and not recwarn.list


def test_a_picture_of_many_parameters_is_small(aml, log):
    import random

    def params():
        return {f"parameter_{n}": random.random() for n in range(15)}

    log("wide", [(f"w{n}", params(), {"auc": n / 100}) for n in range(100)])
    pictures = dict(aml("compare --experiment wide").pictures())
    (text,) = [text for text in pictures if text.startswith("Parallel")]
    assert "not drawn: parameter_12, parameter_13, parameter_14" in text
    assert len(pictures[text]) < 250_000


def test_an_interrupted_command_says_so(fails, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.searches, "find", interrupted)
    assert "'compare' was interrupted" in str(fails("compare --experiment trees"))


LOOKS = ("", "--smooth 0.6 --log --x time", "--x relative")


@pytest.mark.parametrize("flags", LOOKS)
def test_curves_are_a_png_with_a_text_for_it(aml, names, shell, capsys, flags):
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda *a, **k: shown.append((a[0], k)))
        aml(f"compare --experiment trees --metric val_loss {flags}")._ipython_display_()
    (table, _), (chart, options) = shown

    assert {"text/plain", "text/html", "text/markdown"} == set(table)
    assert chart["image/png"].startswith("iVBOR")
    assert options["metadata"]["image/png"]["alt"] == chart["text/plain"]
    assert "best: C0.1 with val_loss 0.2" in chart["text/plain"]


SEARCHED = """
import mlflow
mlflow.log_params({"depth": depth, "rate": 0.1 * depth, "leaves": 10 - depth, "same": 1})
mlflow.log_metric("auc", depth / 10)
"""


def test_more_than_two_numbers_that_differ_are_parallel_coordinates(alone, capsys):
    for depth in (1, 2, 3):
        alone(f"job -i depth={depth} --experiment search", SEARCHED)
    found = alone("compare --experiment search")
    pictures = dict(found.pictures())

    assert found.parallel is not None and len(pictures) == 2
    assert "Parallel coordinates of depth, rate, leaves against auc for 3 runs" in "".join(pictures)


@pytest.mark.parametrize(
    ("metric", "goal"),
    [
        ("val_loss", "min"),
        ("rmse", "min"),
        ("accuracy", "max"),
        ("train-error", "min"),
        ("valid_0-binary_logloss", "min"),
        ("trainLoss", "min"),
        ("brier_score", "min"),
        ("neg_mean_squared_error", "max"),
        ("test_neg_log_loss", "max"),
        ("val/f1", "max"),
    ],
)
def test_a_metrics_name_tells_which_way_is_better(metric, goal):
    assert runs.guess_goal(metric) == goal


WRONG = {
    "compare --metric m": (BadCommand, "--metric m"),
    "compare --experiment nothing --metric m": (NotFound, "nothing"),
    "compare --experiment trees --metric los": (NotFound, "logged: accuracy, val_loss"),
    "compare nothing --metric m": (NotFound, "nothing"),
    "compare --metric m --smooth 1 --experiment trees": (BadCommand, "--smooth"),
    "runs trees --top 3": (BadCommand, "--by"),
    'runs trees --filter "auc >"': (Refused, "filter"),
    "runs nothing": (NotFound, "nothing"),
    'compare --experiment trees --filter "val_loss < 1"': (BadCommand, "metrics.NAME"),
    'compare --experiment trees --filter "metrics.val_loss < 0"': (NotFound, "match"),
    "compare one --experiment trees": (BadCommand, "either"),
    "compare one --filter x": (BadCommand, "--experiment"),
    "compare --experiment trees --metric val_los": (NotFound, "did you mean 'val_loss'?"),
    "compare --experiment trees --baseline nobody": (NotFound, "--baseline"),
    "compare --experiment trees --group-by epoch": (NotFound, "did you mean 'epochs'?"),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be_compared_says_why(line, fails, names):
    kind, words = WRONG[line]
    error = fails(line)

    assert type(error) is kind
    assert words in "\n".join(error._render_traceback_())
