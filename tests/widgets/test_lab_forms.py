"""From the best run to an answered prediction in JupyterLab, by clicks."""

from __future__ import annotations

import json

import pytest

driver = pytest.importorskip("playwright.sync_api", reason="make .venv/.browser installs it")
expect = driver.expect
pytestmark = pytest.mark.slow

LOGIN = "%load_ext aml_magics\n%aml login --local -w forms"
TRAIN = """
%%aml job --experiment wines --display-name trees
import mlflow, pandas as pd
from sklearn.linear_model import LinearRegression
X = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 1.0, 0.0]})
model = LinearRegression().fit(X, 2 * X.x + X.y)
mlflow.log_metric("loss", 0.1)
signature = mlflow.models.infer_signature(X, [0.0])
mlflow.sklearn.save_model(model, "model", signature=signature, input_example=X.tail(1))
mlflow.log_artifacts("model", "model")
""".strip()
OTHER = TRAIN.replace("trees", "stumps").replace("0.1", "0.2").replace("2 * X.x", "3 * X.x")
COMPARE = "%aml compare --experiment wines --metric loss"
ENDPOINT = "%aml endpoint show best"
VIEW = ".aml-compare[data-alive]"
MINUTE = 60_000


@pytest.fixture(scope="module")
def page(lab):
    lab.write("forms", LOGIN, TRAIN, OTHER, COMPARE)
    page = lab.open("forms")
    lab.run(page)
    page.wait_for_selector(VIEW, timeout=3 * MINUTE)
    page.locator(VIEW).scroll_into_view_if_needed()
    return page


def line(form):
    return form.locator(".aml-line code").first.inner_text()


def test_from_the_best_run_to_an_answer_by_clicks(lab, page, shot):
    view = page.locator(VIEW)
    view.get_by_role("button", name="Register… trees").click()
    form = view.get_by_role("region", name="Register a model")
    expect(form).to_contain_text("will be version 1")
    expect(form).to_contain_text("takes x: double, y: double")
    form.get_by_label("name").fill("best model")
    expect(form.get_by_role("button", name="Register")).to_be_disabled()
    expect(form).to_contain_text("letters, digits")
    shot(page, "register-wrong")
    form.get_by_label("name").fill("best")
    form.get_by_label("alias").fill("champion")
    assert line(form).endswith("--name best --alias champion")
    shot(page, "register")
    form.get_by_role("button", name="Register").click()
    expect(form).to_contain_text("registered best:1 as champion")

    form.get_by_role("button", name="Deploy…").click()
    form = view.get_by_role("region", name="Deploy best:1")
    expect(form).to_contain_text("a new endpoint; traffic will be blue 100 %")
    expect(form).not_to_contain_text("USD")  # of that size nothing is known here
    form.get_by_label("size").fill("LOCAL")
    expect(form).to_contain_text("about 0.00 USD an hour")
    form.get_by_label("size").fill("Standard_DS3_v2")
    assert line(form) == "%aml deploy best:1 --endpoint best --deployment blue"
    form.get_by_label("endpoint").fill("b")
    expect(form.get_by_role("button", name="Deploy")).to_be_disabled()
    form.get_by_label("endpoint").fill("best")
    form.get_by_role("button", name="Deploy").click()
    trial = form.get_by_role("region", name="Try it")
    trial.wait_for(timeout=2 * MINUTE)
    expect(form).to_contain_text("asked with its input example: it answers")

    trial.get_by_label("x (double)").fill("10")
    trial.get_by_label("y (double)").fill("1")
    trial.get_by_role("button", name="Ask").click()
    expect(trial.locator("output")).to_contain_text("21")
    shot(page, "answered")
    trial.get_by_role("checkbox", name="as JSON").check()
    trial.get_by_label("request as JSON").fill('{"input_data": {"columns": ["z"], "data": [[1]]}}')
    trial.get_by_role("button", name="Ask").click()
    expect(trial.get_by_role("alert")).to_contain_text("hint:")
    shot(page, "refused")


def test_the_next_version_takes_a_share(page, shot):
    view = page.locator(VIEW)
    view.get_by_role("button", name="Deploy… stumps").click()  # it has to be registered first
    form = view.get_by_role("region", name="Register a model")
    expect(view).to_contain_text("register it first")
    form.get_by_label("name").fill("best")
    form.get_by_label("alias").focus()
    expect(form).to_contain_text("will be version 2")
    form.get_by_role("button", name="Register").click()
    form.get_by_role("button", name="Deploy…").click()
    form = view.get_by_role("region", name="Deploy best:2")
    form.get_by_label("endpoint").fill("best")
    form.get_by_label("deployment").fill("green")
    form.get_by_label("traffic %").fill("30")
    expect(form).to_contain_text("an endpoint that is there; traffic will be blue 70 %, green 30 %")
    shot(page, "deploy-green")
    form.get_by_role("button", name="Deploy").click()
    form.get_by_role("region", name="Try it").wait_for(timeout=2 * MINUTE)


def test_an_endpoint_is_looked_after_by_clicks(lab, page, shot):
    lab.write("endpoint", LOGIN, ENDPOINT)
    page = lab.open("endpoint")
    lab.run(page)
    view = page.locator(".aml-widget[data-alive]")
    view.wait_for(timeout=MINUTE)
    expect(view).to_contain_text("best:1")
    expect(view.locator("output").first).to_have_text("70 %")
    expect(view.locator(".aml-load").first).to_contain_text("/min p50")
    view.get_by_label("traffic of blue").fill("50")
    expect(view).to_contain_text("20 % left to give")
    expect(view.get_by_role("button", name="Apply")).to_be_disabled()
    view.get_by_label("traffic of green").fill("50")
    assert line(view) == "%aml traffic best blue=50 green=50"
    shot(page, "endpoint")
    view.get_by_role("button", name="Apply").click()
    expect(view.get_by_role("button", name="Apply")).to_be_enabled(timeout=MINUTE)
    view.get_by_role("button", name="Roll back").click()
    expect(view.locator("output").first).to_have_text("70 %", timeout=MINUTE)
    page.evaluate(
        "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
    )
    view.get_by_role("button", name="Logs").click()
    expect(view.locator(".aml-log")).to_contain_text("blue")
    shot(page, "endpoint-dark")
    view.get_by_role("button", name="Try it…").click()
    view.get_by_role("region", name="Try it").get_by_role("button", name="Ask").click()
    expect(view.locator("output.aml-answer")).not_to_be_empty(timeout=MINUTE)

    lab.save(page)
    expect(page.get_by_text("90 %")).to_have_count(0)
    content = json.dumps(lab.saved("endpoint"))
    assert "aml-static" in content and "Bearer" not in content

    view.get_by_label("type best to delete it").fill("bes")
    expect(view.get_by_role("button", name="Delete")).to_be_disabled()
    view.get_by_label("type best to delete it").fill("best")
    view.get_by_role("button", name="Delete").click()
    expect(view).to_contain_text("deleted best", timeout=MINUTE)
