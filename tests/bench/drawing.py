"""The view of a comparison in headless Chromium, against strokes on a bare canvas.

100 runs of 1,000 points each: from data to paint, and from frame to frame while zooming. Needs what
``make .venv/.browser`` installs and a ``chromium``; without them there are no rows.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rows import Row, compare

STATIC = Path(__file__).parents[2] / "widgets" / "aml_widgets" / "static"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SITE = "http://bench.invalid"  # answered by this process, never looked up
PAGE = Path(__file__).with_suffix(".html")


def measure() -> list[Row]:
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        chromium = None
    if not chromium:
        print("drawing: left out; make .venv/.browser, and a chromium", file=sys.stderr)
        return []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto(SITE)
        page.wait_for_function("window.ready")
        found = rows(page.evaluate)
        browser.close()
    return found


def rows(evaluate: Callable[[str], list[float]]) -> list[Row]:
    pairs = [[partial(taken, evaluate, name, at) for name in ("ours", "baseline")] for at in (0, 1)]
    what = (
        "100 curves of 1,000 points, drawn first",
        "100 curves of 1,000 points, a frame of a zoom",
    )
    goals = "<= 300 ms", "<= 33 ms"
    return [
        compare(label, "ms", *pair, pairs=5, goal=goal)
        for label, pair, goal in zip(what, pairs, goals, strict=True)
    ]


def taken(evaluate: Callable[[str], list[float]], name: str, at: int) -> float:
    return evaluate(f"{name}()")[at]


def answer(route) -> None:
    name = route.request.url.removeprefix(f"{SITE}/")
    kinds = {".js": "text/javascript", ".css": "text/css"}
    if not name:
        route.fulfill(body=PAGE.read_text(), content_type="text/html")
    elif (STATIC / name).is_file():
        content = (STATIC / name).read_text()
        route.fulfill(body=content, content_type=kinds[Path(name).suffix])
    else:
        route.fulfill(status=404)
