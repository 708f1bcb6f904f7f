"""The views in JupyterLab, clicked and typed at as a person does."""

from __future__ import annotations

import json
import os

import pytest

pytestmark = pytest.mark.slow

LOGIN = "%load_ext aml_magics\n%aml login --local"
TRAIN = """
import contextlib, io, math
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
client = MlflowClient()
experiment = client.create_experiment("trees")
start = 1_700_000_000_000
for number in range(6):
    run = client.create_run(experiment, run_name=f"trial-{number}", start_time=start)
    rate = 0.1 * (number + 1)
    loss = [math.exp(-rate * step / 20) + 0.02 * math.sin(step) for step in range(200)]
    metrics = [Metric("val_loss", y, start + 1000 * x, x) for x, y in enumerate(loss)]
    metrics.append(Metric("accuracy", 0.5 + rate / 2, start, 0))
    params = {"rate": f"{rate:.1f}", "depth": 2 + number % 3, "seed": 7, "kind": "ab"[number % 2]}
    rows = [Param(key, str(value)) for key, value in params.items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=rows)
    client.log_text(run.info.run_id, f"notes of trial {number}", "notes.txt")
    with contextlib.redirect_stdout(io.StringIO()):
        client.set_terminated(run.info.run_id, end_time=start + 200_000)
"""
COMPARE = "%aml compare --experiment trees --metric val_loss"
JOB = """%%aml job -i n=40 --experiment live --display-name counting --no-wait
import mlflow, time, pathlib
for step in range(n):
    mlflow.log_metric("loss", 1 / (step + 1), step=step)
    print(f"step {step}")
    print(f" {100 * (step + 1) // n}%|##| {step + 1}/{n} [00:01<00:01]")
    time.sleep(0.2)
"""
WAIT = """import time
from mlflow import MlflowClient
found = []
while not found or "loss" not in found[0].data.metrics:
    experiment = MlflowClient().get_experiment_by_name("live2")
    found = MlflowClient().search_runs([experiment.experiment_id]) if experiment else []
    time.sleep(0.1)
"""
COMPARE_LIVE = "%aml compare --experiment live2 --metric loss"
OTHER = "print('a cell of its own')"
VIEW = ".aml-compare[data-alive]"
STATE_BYTES = 300_000
INKED = """(() => {  // the chart has been drawn
    const canvas = document.querySelector('.aml-plot canvas')
    const {width, height} = canvas ?? {}
    return canvas?.getContext('2d').getImageData(0, 0, width, height).data.some(Boolean)
})()"""


COLOURED = """(() => {  // a mark of the first run's colour is in the middle of the chart
    const canvas = document.querySelector('.aml-plot canvas')
    if (!canvas) return false
    const {width, height} = canvas
    const {data} = canvas.getContext('2d').getImageData(0, 0, width, height)
    const pixels = Array.from({length: data.length / 4}, (_, at) => data.slice(4 * at, 4 * at + 3))
    return pixels.filter(([r, g, b]) => r === 0 && g === 0x72 && b === 0xb2).length > 20
})()"""


@pytest.fixture(scope="module")
def page(lab):
    """A comparison of six runs, drawn."""
    lab.write("compare", LOGIN, TRAIN, COMPARE)
    page = lab.open("compare")
    lab.run(page)
    page.wait_for_selector(VIEW)
    page.locator(VIEW).scroll_into_view_if_needed()
    return page


@pytest.fixture
def view(page):
    """The view as it was opened."""
    yield page.locator(VIEW)
    page.locator(f"{VIEW} [data-tab=curves]").click()
    page.locator(f"{VIEW} input[type=search]").fill("")
    while (hidden := page.locator(f"{VIEW} tbody input:not(:checked)")).count():
        hidden.first.click()


def names(view):
    return view.locator("tbody th[scope=row]").all_inner_texts()


def line(view):
    return view.locator(".aml-line code").inner_text()


def test_the_table_is_first_and_the_static_form_gives_way(page, view, shot):
    assert names(view) == [f"trial-{n}" for n in (5, 4, 3, 2, 1, 0)]
    assert "seed" not in view.locator("thead").inner_text()  # it does not differ
    assert view.locator("tbody tr").first.inner_text().count("★") == 2
    assert page.locator("p.aml-static").count() == 1
    assert not page.locator("p.aml-static").is_visible()
    assert line(view) == COMPARE
    shot(page, "compare-light")


def test_a_click_on_a_heading_sorts_and_says_so(view):
    heading = view.get_by_role("columnheader", name="rate")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert names(view)[0] == "trial-0"
    heading.get_by_role("button").press("Enter")  # the focus has stayed
    assert names(view)[0] == "trial-5"
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "none"


def test_a_filter_leaves_rows_and_names_them_in_the_line(view):
    view.locator("input[type=search]").first.fill("kind=a")
    assert names(view) == ["trial-4", "trial-2", "trial-0"]
    assert line(view).startswith("%aml compare ") and "--experiment" not in line(view)
    assert len(line(view).split(" --")[0].split()) == 2 + 3


def test_a_hidden_run_is_not_drawn(view):
    view.get_by_role("checkbox", name="draw trial-3").uncheck()
    assert "trial-3" not in view.locator(".aml-plot").get_attribute("aria-label")
    assert len(names(view)) == 6


def test_a_baseline_shows_differences(view, page, shot):
    view.get_by_role("button", name="baseline trial-0").click()
    deltas = view.locator("tr", has_text="trial-5").locator(".aml-delta").all_inner_texts()
    assert "+0.25" in [delta.strip() for delta in deltas]
    shot(page, "baseline")
    view.get_by_role("button", name="baseline trial-0").press("Space")
    assert not view.locator(".aml-delta").count()


def test_groups_have_means_and_a_colour(view, page, shot):
    view.get_by_label("Group by").select_option("params.kind")
    assert view.locator(".aml-group th").all_inner_texts() == [
        "kind = a · 3 runs, means",
        "kind = b · 3 runs, means",
    ]
    shot(page, "groups")
    assert len(colours(view)) == 2  # as are the curves
    view.get_by_label("Group by").select_option("")
    assert len(colours(view)) == 6


def colours(view):
    """Of the runs in the table."""
    return set(
        view.locator("tr[data-run] .aml-swatch").evaluate_all(
            "all => all.map((one) => one.style.borderTopColor)"
        )
    )


def test_the_cursor_reads_all_curves(view):
    box = view.locator(".u-over").bounding_box()
    view.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    readout = view.locator(".aml-readout")
    assert readout.locator("b").inner_text().startswith("step ")
    assert readout.locator("span").count() == 6


def test_a_drag_and_keys_zoom(view):
    def marks():
        return view.locator(".aml-plot canvas").evaluate("c => c.toDataURL()")

    whole = marks()
    box = view.locator(".u-over").bounding_box()
    y = box["y"] + 50
    view.page.mouse.move(box["x"] + 100, y)
    view.page.mouse.down()
    view.page.mouse.move(box["x"] + 250, y, steps=4)
    view.page.mouse.up()
    view.page.mouse.move(box["x"] + 10, box["y"] + box["height"] + 200)
    zoomed = marks()
    assert zoomed != whole
    view.locator(".aml-plot").press("ArrowRight")
    assert marks() not in {whole, zoomed}
    view.locator(".aml-plot").press("0")
    assert marks() == whole


def test_axis_scale_and_smoothing_are_in_the_line(view):
    view.get_by_label("Axis").select_option("relative")
    view.get_by_label("log scale").check()
    view.get_by_label("smoothing").fill("0.6")
    assert line(view).endswith("--metric val_loss --smooth 0.6 --log --x relative")
    view.get_by_label("Axis").select_option("step")
    view.get_by_label("log scale").uncheck()
    view.get_by_label("smoothing").fill("0")
    assert line(view) == COMPARE


def test_brushes_select_runs_by_pointer_and_by_keys(view, page, shot):
    view.get_by_role("tab", name="Parallel").click()
    axis = view.get_by_role("slider", name="range of rate")
    axis.press("ArrowUp")
    assert names(view) == ["trial-5", "trial-4"]
    shot(page, "parallel-light")
    axis.press("Escape")
    assert len(names(view)) == 6
    box = axis.bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 0.55 * box["height"])
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] - 2, steps=5)
    page.mouse.up()
    assert 0 < len(names(view)) < 6 and "trial-0" in names(view)
    view.get_by_role("button", name="Clear brushes").click()
    assert len(names(view)) == 6


def test_a_scatter_tells_its_points_in_words(view, page, shot):
    view.get_by_role("tab", name="Scatter").click()
    assert view.get_by_label("trial-0: rate 0.1, val_loss 0.35209").count() == 1
    shot(page, "scatter-light")


def test_artifacts_stand_side_by_side(view, page, shot):
    view.get_by_role("tab", name="Artifacts").click()
    page.wait_for_function("document.querySelectorAll('.aml-sides pre').length === 2")
    texts = view.locator(".aml-sides pre").all_inner_texts()
    assert texts == ["notes of trial 5", "notes of trial 4"]
    view.get_by_label("right run").select_option(label="trial-0")
    page.wait_for_function("document.body.innerText.includes('notes of trial 0')")
    shot(page, "artifacts-light")


def test_tables_and_pictures_are_downloaded(view, page, tmp_path):
    view.get_by_role("checkbox", name="draw trial-3").uncheck()
    with page.expect_download() as table:
        view.get_by_role("button", name="CSV").click()
    rows = table.value.path().read_text().splitlines()
    assert (
        rows[0] == "name,display_name,status,val_loss,accuracy,params.rate,params.depth,params.kind"
    )
    assert len(rows) == 1 + 5


PICTURES = {
    "curves": ("val_loss.png", 'found.figure.savefig("val_loss.png")'),
    "scatter": ("scatter.png", '.figure.savefig("scatter.png")'),
    "parallel": ("parallel.png", 'found.parallel.savefig("parallel.png")'),
}


@pytest.mark.parametrize("tab", PICTURES)
def test_a_picture_is_of_what_is_on_screen(view, page, tab, shot, tmp_path):
    from PIL import Image

    name, written = PICTURES[tab]
    view.locator(f"[data-tab={tab}]").click()
    with page.expect_download() as picture:
        view.get_by_role("button", name="PNG").click()
    assert picture.value.suggested_filename == name and line(view).endswith(written)
    assert view.locator(f"[data-tab={tab}]").get_attribute("aria-selected") == "true"
    picture.value.save_as(tmp_path / name)
    image = Image.open(tmp_path / name).convert("RGB")
    assert image.width > 600 and len(image.getcolors(1 << 24)) > 30
    if folder := os.environ.get("AML_SCREENSHOTS"):
        picture.value.save_as(f"{folder}/png-{name}")


def test_keys_typed_in_the_view_are_its_own(view, page):
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    metric = view.get_by_label("Metric")
    for target in (metric, view.get_by_role("button", name="CSV"), view.locator(".aml-plot")):
        target.focus()
        for key in ("x", "d", "d", "a", "b"):
            page.keyboard.press(key)
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    metric.focus()
    metric.select_option("val_loss")
    page.keyboard.press("ArrowDown")
    assert metric.input_value() == "accuracy"
    smooth = view.get_by_label("smoothing")
    smooth.focus()
    page.keyboard.press("ArrowRight")
    assert float(smooth.input_value()) == pytest.approx(0.01)
    page.keyboard.press("ArrowLeft")
    metric.select_option("val_loss")


def test_a_metric_that_was_logged_once_is_dots(view, page, shot):
    view.get_by_label("Metric").select_option("accuracy")
    page.wait_for_function(COLOURED)
    shot(page, "once")
    view.get_by_label("Metric").select_option("val_loss")


def test_where_no_run_is_left_it_is_said(view):
    view.locator("input[type=search]").first.fill("lr>0.5")
    assert "no column is called lr" in view.locator(".aml-none").inner_text()
    assert line(view).startswith("# no run is left")
    view.locator("input[type=search]").first.fill("rate>0.9")
    assert "no run matches" in view.locator(".aml-none").inner_text()
    view.locator("input[type=search]").first.fill("rate>=0.5")
    assert names(view) == ["trial-5", "trial-4"]


def test_the_line_has_baseline_and_group(view):
    view.get_by_role("button", name="baseline trial-0").click()
    view.get_by_label("Group by").select_option("params.kind")
    assert line(view).endswith(" --group-by kind") and " --baseline " in line(view)
    view.get_by_label("Group by").select_option("")
    view.get_by_role("button", name="baseline trial-0").click()
    assert line(view) == COMPARE


def test_the_line_is_copied(view, page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    view.get_by_role("button", name="Copy as code").click()
    page.wait_for_function("document.querySelector('.aml-line .aml-note').textContent === 'copied'")
    assert page.evaluate("navigator.clipboard.readText()") == line(view)


def test_dark_is_dark(page, view, shot):
    paper = "getComputedStyle(document.querySelector('.aml-compare')).backgroundColor"
    light = page.evaluate(paper)
    page.evaluate(
        "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
    )
    page.wait_for_function(f"{paper} !== '{light}'")
    page.wait_for_function(INKED)
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    shot(page, "compare-dark")
    view.get_by_role("tab", name="Parallel").click()
    shot(page, "parallel-dark")
    page.evaluate(
        "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})"
    )


def test_a_saved_notebook_opens_without_a_kernel(lab, page, view, shot):
    view.get_by_role("checkbox", name="draw trial-2").uncheck()
    lab.save(page)
    saved = lab.saved("compare")
    assert len(json.dumps(saved.metadata.widgets)) < STATE_BYTES

    codes = [
        one["state"]["source"]
        for one in saved.metadata.widgets["application/vnd.jupyter.widget-state+json"][
            "state"
        ].values()
        if "source" in one["state"]
    ]
    assert len(codes) == 1  # however many views there are

    lab.copy("compare", "reopened")
    other = lab.open("reopened")
    again = other.locator(".aml-compare")
    again.wait_for()
    other.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    assert names(again)[0] == "trial-5" and len(names(again)) == 6
    assert not again.get_by_role("checkbox", name="draw trial-2").is_checked()
    assert "5 runs" in again.locator(".aml-plot").get_attribute("aria-label")
    assert again.get_by_role("button", name="Refresh").is_disabled()
    again.get_by_role("columnheader", name="rate").get_by_role("button").click()
    assert names(again)[0] == "trial-0"
    again.scroll_into_view_if_needed()
    shot(other, "reopened")


@pytest.mark.parametrize("is_mine", [False, True], ids=["of another", "mine"])
def test_without_saved_state_the_static_form_is_there(lab, page, shot, is_mine):
    lab.save(page)
    lab.copy("compare", "stripped", without="widgets")
    if is_mine:
        lab.trust("stripped")
    other = lab.open("stripped", kernel=is_mine)
    other.locator("p.aml-static").wait_for()
    assert other.locator(".aml-compare").count() == 0
    if is_mine:
        other.get_by_text("model not found").wait_for(state="attached")
        assert not other.get_by_text("model not found").is_visible()
    shot(other, f"stripped-{is_mine}")


def test_a_card_follows_a_job_and_leaves_other_cells_alone(lab, shot):
    lab.write("card", LOGIN, JOB, OTHER)
    page = lab.open("card")
    lab.run(page)
    card = page.locator(".aml-card")
    card.wait_for()
    page.wait_for_function("document.querySelector('.aml-card progress')?.value > 0.1")
    assert "Running" in card.locator(".aml-status").inner_text()
    assert card.locator(".aml-sparks").inner_text().startswith("loss")
    shot(page, "card-running")
    with page.context.expect_page() as opened:
        card.get_by_role("link", name="Open").click()
    opened.value.get_by_text("counting").first.wait_for()
    assert "token" not in opened.value.url
    opened.value.close()
    page.wait_for_selector(".aml-status.aml-completed")
    assert card.locator("progress").evaluate("p => p.value") == 1
    assert "step 39" in card.locator(".aml-log").inner_text()
    card.get_by_label("search the log").fill("step 7")
    assert card.locator(".aml-log").inner_text() == "step 7"
    assert card.get_by_role("button", name="Cancel").is_disabled()
    shot(page, "card-completed")
    lab.save(page)
    other = [output.get("text") for output in lab.saved("card").cells[2].outputs]
    assert other == ["a cell of its own\n"]
    kept = [o for o in lab.saved("card").cells[1].outputs if "text/html" in o.get("data", {})]
    assert "Completed" in kept[0].data["text/html"]


def test_a_card_says_that_its_kernel_has_ended(lab, shot):
    lab.write("ended", LOGIN, JOB.replace("live", "ended").replace("n=40", "n=400"))
    page = lab.open("ended")
    lab.run(page)
    page.wait_for_selector(".aml-card .aml-cancel:not([disabled])")
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    card = page.locator(".aml-card")
    card.get_by_text("needs a kernel to go on").wait_for()
    assert card.get_by_role("button", name="Cancel").is_disabled()
    shown = card.locator(".aml-elapsed").inner_text()
    page.wait_for_timeout(2100)  # the clock would have gone on twice
    assert card.locator(".aml-elapsed").inner_text() == shown
    shot(page, "card-ended")


STEPS = """%%aml pipeline --no-wait
display_name: two steps
settings: {default_compute: azureml:cpu}
jobs:
  prep:
    command: echo prepared > ${{outputs.made}}/text
    environment: {image: none.invalid/none}
    outputs: {made: {type: uri_folder}}
  train:
    command: cat ${{inputs.before}}/text; sleep 2
    environment: {image: none.invalid/none}
    inputs: {before: "${{parent.jobs.prep.outputs.made}}"}
"""


def test_a_pipelines_card_is_a_graph_of_its_steps(lab, shot):
    lab.write("steps", LOGIN, STEPS)
    page = lab.open("steps")
    lab.run(page)
    page.get_by_label("train: Running").wait_for()
    assert page.get_by_label("prep: Completed").count() == 1
    assert page.locator(".aml-edge").count() == 1
    shot(page, "card-pipeline")
    page.locator(".aml-status.aml-completed").wait_for()
    assert page.get_by_label("train: Completed").count() == 1


def test_a_comparison_is_refreshed_while_a_job_runs(lab):
    lab.write("refresh", LOGIN, JOB.replace("live", "live2"), WAIT, COMPARE_LIVE)
    other = lab.open("refresh")
    lab.run(other)
    view = other.locator(VIEW)
    view.wait_for()
    first = view.locator("tbody td.aml-number").first.inner_text()
    other.wait_for_selector(".aml-status.aml-completed")
    view.get_by_role("button", name="Refresh").click()
    view.locator("tbody td.aml-number", has_text="0.025").wait_for()
    assert first != "★ 0.025 best"
