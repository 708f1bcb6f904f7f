"""The code of the views as a widget: a notebook has it once, however many views it shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import anywidget
import traitlets as t

STATIC = Path(__file__).parent / "static"
# What each view has instead of its code: finds the widget that has it, and lets that draw.
LOADER = STATIC / "loader.js"


class Code(anywidget.AnyWidget):
    """An ES module as text; drawn by nobody."""

    _esm = "export default {}"
    source = t.Unicode().tag(sync=True)


@cache
def code(name: str) -> Code:
    """The one widget with the code of a view."""
    return Code(source=(STATIC / f"{name}.js").read_text(encoding="utf-8"))
