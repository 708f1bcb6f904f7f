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
    """An ES module and its stylesheet as text; drawn by nobody."""

    _esm = "export default {}"
    source = t.Unicode().tag(sync=True)
    style = t.Unicode().tag(sync=True)


@cache
def code(name: str) -> Code:
    """The one widget with the code of a view."""
    source, style = ((STATIC / f"{name}.{kind}").read_text("utf-8") for kind in ("js", "css"))
    return Code(source=source, style=style)
