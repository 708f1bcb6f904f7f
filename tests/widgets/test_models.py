"""What the views are given, without a view."""

from __future__ import annotations

import json
from weakref import WeakSet

import numpy as np
import pytest
from aml_widgets import cards, compare, curves, tables
from aml_widgets.cards import Log, Reading
from aml_widgets.compare import CURVE_BYTES, Compare, Source
from aml_widgets.job_card import JobCard

ROWS = [
    {"name": "r1", "display_name": "a", "params.C": "0.5", "params.kind": "x", "loss": 0.25},
    {"name": "r2", "display_name": "b", "params.C": "2", "params.kind": "3", "loss": float("nan")},
    {"name": "r3", "display_name": "c", "params.kind": "", "extra": 1.0},
]


def numbers(table, block):
    columns = [column["key"] for column in table["columns"] if column["type"] == "number"]
    return dict(zip(columns, np.frombuffer(block).reshape(len(columns), -1), strict=True))


def test_numbers_are_a_block_and_texts_are_texts():
    table, block = tables.pack(ROWS, {"loss": "min"})
    found = numbers(table, block)

    assert table["runs"] == ["r1", "r2", "r3"]
    assert found["params.C"].tolist()[:2] == [0.5, 2.0] and np.isnan(found["params.C"][2])
    assert found["loss"][0] == 0.25 and np.isnan(found["loss"][1:]).all()
    kinds = {column["key"]: column for column in table["columns"]}
    assert kinds["params.kind"] == {
        "key": "params.kind",
        "label": "kind",
        "kind": "param",
        "type": "text",
        "texts": ["x", "3", ""],
    }
    assert kinds["loss"]["goal"] == "min" and kinds["extra"]["goal"] == "max"


def test_no_runs_are_no_columns():
    assert tables.pack([], {}) == ({"runs": [], "columns": []}, b"")


def test_a_curve_is_by_step_then_time_and_counts_from_its_earliest_point():
    found = curves.curve("r", "m", [2, 0, 0], [105, 103, 101], [1, 2, 3])

    assert found.step.tolist() == [0, 0, 2] and found.value.tolist() == [3, 2, 1]
    assert found.start == 101 and found.seconds.tolist() == [0, 2, 4]


def test_steps_beyond_float32_stay_apart():
    found = curves.curve("r", "m", [2**40, 2**40 + 1], [0, 1], [1, 2])
    assert np.diff(found.step).tolist() == [1]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1000, 100_000])
@pytest.mark.parametrize("limit", [1, 4, 5, 120, 1000])
def test_thinning_keeps_ends_and_peaks(count, limit):
    values = np.sin(np.arange(count) / 50)
    if count > 100:
        values[count // 3], values[count // 2] = 50, -50
    whole = curves.curve("r", "m", np.arange(count), np.arange(count), values)
    thin = curves.thin(whole, limit)

    assert len(thin.value) <= max(limit, 4)
    if count:
        assert thin.step[0] == 0 and thin.step[-1] == count - 1
        assert (thin.value.min(), thin.value.max()) == (whole.value.min(), whole.value.max())


def test_thinning_passes_over_what_is_not_finite():
    values = np.full(1000, np.nan)
    values[500] = 7
    thin = curves.thin(curves.curve("r", "m", range(1000), range(1000), values), 10)
    assert np.nanmax(thin.value) == 7


@pytest.mark.parametrize(("count", "points"), [(1, 100_000), (100, 1000), (5000, 50)])
def test_the_overview_stays_under_its_size(count, points):
    one = curves.curve("r", "m", range(points), range(points), np.zeros(points))
    series, block = curves.pack(curves.overview([one] * count, CURVE_BYTES))
    assert block and tables.saved_bytes(series, block) <= CURVE_BYTES


def test_curves_are_three_blocks_in_the_order_of_their_description():
    pair = [curves.curve(name, "m", [0, 1], [10, 11], [n, n + 1]) for n, name in enumerate("ab")]
    series, block = curves.pack(pair)

    assert [(one["run"], one["count"], one["start"]) for one in series] == [
        ("a", 2, 10),
        ("b", 2, 10),
    ]
    assert np.frombuffer(block, "f8", 4).tolist() == [0, 1, 0, 1]
    assert np.frombuffer(block, "f8", 4, 32).tolist() == [0, 1, 1, 2]
    assert np.frombuffer(block, "f4", 4, 64).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (["a\nb", "c\n"], ["a", "bc"]),
        ([" 0%|", "  | 0/9\r 50%|# | 5/9\r", "100%|##| 9/9\n", "done"], ["100%|##| 9/9", "done"]),
        (["one\r\ntwo\r", "\n"], ["one", "two"]),
        (["\n".join(map(str, range(1000)))], [str(n) for n in range(600, 1000)]),
        (["x" * 5000], ["x" * 2000]),
    ],
)
def test_a_log_reads_as_in_a_terminal(pieces, lines):
    log = Log()
    for piece in pieces:
        log.add(piece)
    assert log.lines == lines


BARS = {
    "epoch:  45%|████▌     | 9/20 [00:03<00:04,  2.7it/s]": {"share": 0.45, "text": "9 of 20"},
    " 50%|#####| 1.50k/3.00k [00:01<00:01, 1.5kB/s]": {"share": 0.5, "text": "1.50k of 3.00k"},
    "accuracy 45% | 3": None,
    "": None,
}


@pytest.mark.parametrize("line", BARS)
def test_a_progress_bar_is_read_from_the_log(line):
    assert cards.progress([line], []) == BARS[line]


@pytest.mark.parametrize(("value", "share"), [(0.25, 0.25), (25, 0.25), (150, 1.0), (-1, 0.0)])
def test_a_metric_named_progress_goes_before_it(value, share):
    metric = curves.curve("r", "progress", [0], [0], [value])
    assert cards.progress(list(BARS), [metric])["share"] == share


def test_a_card_offers_to_cancel_until_the_end():
    about = {"title": "t", "kind": "Command", "url": ""}
    offered = {
        status: cards.card("j", about, Reading(status), [])["can_cancel"]
        for status in ("Queued", "Running", "CancelRequested", "Completed", "Failed", "Canceled")
    }
    assert [status for status, can in offered.items() if can] == ["Queued", "Running"]


def test_a_card_counts_from_the_start_to_the_end_or_now():
    times = {"started": 100.0, "now": 130.0}
    elapsed = [
        cards.card("j", {}, Reading("Running", **given), [])["elapsed"]
        for given in (times, {**times, "ended": 110.0}, {"now": 130.0})
    ]
    assert elapsed == [30, 10, None]


def test_edges_are_the_bindings_between_steps():
    steps = {
        "prep": {"inputs": {"raw": {"value": "${{parent.inputs.raw}}"}}},
        "train": {"inputs": {"data": {"value": "${{parent.jobs.prep.outputs.clean}}"}}},
        "score": {
            "inputs": {
                "model": "${{parent.jobs.train.outputs.model}}",
                "data": "${{parent.jobs.prep.outputs.clean}}",
                "other": "${{parent.jobs.elsewhere.outputs.x}}",
            }
        },
    }
    assert cards.edges(steps) == [("prep", "score"), ("prep", "train"), ("train", "score")]


class Sent(list):
    """What a widget sends to its view."""

    def __call__(self, content, buffers=None):
        self.append((content, buffers))


@pytest.fixture
def compared(monkeypatch):
    """A comparison on files and curves made here, and what it sends."""
    asked = []

    def history(runs, metric):
        asked.append((list(runs), metric))
        return [curves.curve(run, metric, range(3), range(3), range(3)) for run in runs]

    source = Source(
        rows=lambda: [*ROWS, {"name": "r4", "display_name": "d", "loss": 0.5}],
        history=history,
        files=lambda run: {"r1": ["a.png", "b.txt"]}[run],
        read=lambda run, path: b"x" * 300_000,
    )
    widget = Compare(
        ROWS, history(["r1"], "loss"), source, goals={"loss": "min"}, view={}, origin={}
    )
    sent = Sent()
    monkeypatch.setattr(widget, "send", sent)
    return lambda wish: widget._handle_custom_msg(wish, []), sent, asked, widget


def test_views_of_a_notebook_share_its_room(compared, monkeypatch):
    monkeypatch.setattr(compare, "_open", WeakSet())
    rows = [{"name": f"{n:032}", "display_name": f"run {n}", "loss": n} for n in range(3000)]
    found = [
        curves.curve(row["name"], "loss", range(999), range(999), range(999)) for row in rows[:100]
    ]

    def view():
        source = compared[3]._source
        return Compare(rows, found, source, goals={"loss": "min"}, view={}, origin={})

    views = [view() for _ in range(12)]
    saved = views[0].get_manager_state(
        widgets=[*views, *{one.code for one in views}], drop_defaults=True
    )
    assert len(json.dumps(saved)) < 300_000
    assert len({len(one.table["runs"]) for one in views}) == 1 and views[0].series
    least = len(views[0].table["runs"])
    assert least
    for one in views[1:]:
        one.close()
    assert len(view().table["runs"]) > 5 * least


def test_curves_are_read_once(compared):
    wish, sent, asked, _ = compared
    wish({"want": "curves", "runs": ["r1", "r2"], "metric": "loss"})
    wish({"want": "curves", "runs": ["r1", "r2"], "metric": "loss"})

    assert asked == [(["r1"], "loss"), (["r2"], "loss")]
    assert [one["run"] for one in sent[1][0]["series"]] == ["r1", "r2"]
    assert len(sent[1][1][0]) == 6 * curves.POINT_BYTES


def test_a_refresh_brings_new_runs_and_reads_the_curves_again(compared):
    wish, _, asked, widget = compared
    wish({"want": "refresh", "metric": "loss", "limit": 100})

    assert widget.table["runs"] == ["r1", "r2", "r3", "r4"]
    assert asked[-1] == (["r1", "r2", "r3", "r4"], "loss")
    assert [one["run"] for one in widget.series] == ["r1", "r2", "r3", "r4"]


@pytest.mark.parametrize(("runs", "columns", "points"), [(3, 2, 10), (100, 8, 999), (3000, 40, 9)])
def test_what_a_notebook_saves_stays_small(compared, monkeypatch, runs, columns, points):
    params = {f"params.number_{n}": str(n) for n in range(columns)}
    rows = [
        {"name": f"{n:032}", "display_name": f"run {n}", "loss": n, **params} for n in range(runs)
    ]
    found = [
        curves.curve(row["name"], "loss", range(points), range(points), range(points))
        for row in rows[:100]
    ]
    widget = Compare(rows, found, compared[3]._source, goals={"loss": "min"}, view={}, origin={})
    sent = Sent()
    monkeypatch.setattr(widget, "send", sent)
    saved = widget.get_manager_state(widgets=[widget], drop_defaults=True)

    assert len(json.dumps(saved)) < 300_000
    assert 0 < len(widget.table["runs"]) <= runs and widget.series
    widget._handle_custom_msg({"want": "alive"}, [])
    whole = [content["table"]["runs"] for content, _ in sent if content["kind"] == "table"]
    assert len((whole or [widget.table["runs"]])[0]) == runs


def test_a_long_text_is_cut_and_an_image_is_not(compared):
    wish, sent, *_ = compared
    wish({"want": "file", "run": "r1", "path": "b.txt"})
    wish({"want": "file", "run": "r1", "path": "a.png"})

    assert [len(buffers[0]) for _, buffers in sent] == [200_000, 300_000]
    assert [content["type"] for content, _ in sent] == ["text/plain", "image/png"]


@pytest.mark.parametrize("wish", [{"want": "files", "run": "gone"}, {"want": "nothing"}])
def test_what_goes_wrong_is_told_to_the_view(compared, wish):
    ask, sent, *_ = compared
    ask(wish)
    assert sent[0][0]["kind"] == "error" and sent[0][0]["text"]


@pytest.mark.parametrize("last", ["Completed", "Failed", "Canceled"])
def test_a_card_follows_a_job_to_its_end_over_lost_connections(last):
    readings = iter([Reading("Running", "one\n"), OSError("gone"), Reading(last, "two\n")])

    def read():
        found = next(readings)
        if isinstance(found, OSError):
            raise found
        return found

    told = []
    card = JobCard(
        "j", {"title": "t"}, read, lambda: None, changed=lambda r: told.append(r.status)
    ).start()

    assert card.wait(30)
    assert card.card["status"] == last and card.log == "one\ntwo"
    assert told == ["Running", last]
    assert next(readings, "none left") == "none left"


def test_a_refused_cancel_is_said_on_the_card():
    def refuse():
        raise RuntimeError("it has ended")

    card = JobCard("j", {"title": "t"}, lambda: Reading("Completed"), refuse).start()
    card._handle_custom_msg({"want": "cancel"}, [])
    assert card.card["note"] == "not canceled: it has ended"
