"""Forms: the view shows facts, gives lines, and hears what comes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets as t
from ipywidgets import widget_serialization

from aml_widgets.code import LOADER, Code, code

WISHES = frozenset({"facts", "run"})
Send = Callable[[dict[str, Any]], Any]


class Desk:
    """Answers wishes of forms, each in a thread of its own: a deployment takes minutes."""

    def __init__(
        self,
        facts: Callable[[str, dict[str, Any]], Mapping[str, Any]],
        run: Callable[[str, Callable[[str], None]], Mapping[str, Any]],
    ) -> None:
        """Name the calls.

        Args: facts: what a form of a name shows. run: does what a line says, and tells about it.
            Either may raise; an exception's ``hint`` is shown too.
        """
        self._facts = facts
        self._run = run

    def answer(self, wish: Mapping[str, Any], send: Send) -> threading.Thread:
        """Begin to do what a form asks for: ``want`` is ``facts`` or ``run``."""
        work = threading.Thread(target=self._answer, args=(wish, send), name="form", daemon=True)
        work.start()
        return work

    def _answer(self, wish: Mapping[str, Any], send: Send) -> None:
        about = {"kind": "form", "id": wish.get("id")}

        def tell(text: str) -> None:
            send({**about, "told": text})

        try:
            if wish["want"] == "facts":
                done = self._facts(str(wish["form"]), dict(wish.get("asked") or {}))
            else:
                done = self._run(str(wish["line"]), tell)
            send({**about, "done": dict(done)})
        except Exception as exc:  # whatever it is: else the click would seem to do nothing
            detail = list(getattr(exc, "detail", None) or [])
            send({**about, "error": str(exc), "hint": getattr(exc, "hint", ""), "detail": detail})


class Form(anywidget.AnyWidget):
    """A form in a cell of its own; what it shows at first is what a saved notebook has."""

    _esm = LOADER
    code = t.Instance(Code).tag(sync=True, **widget_serialization)
    form = t.Unicode().tag(sync=True)
    facts = t.Dict().tag(sync=True)

    def __init__(self, form: str, facts: Mapping[str, Any], desk: Desk) -> None:
        """Show a form: ``register``, ``deploy`` or ``endpoint``, with these facts."""
        super().__init__(code=code("forms"), form=form, facts=dict(facts))
        self._desk = desk
        self.on_msg(self._answer)

    def _answer(self, _: Any, wish: dict[str, Any], __: Any) -> None:
        if wish["want"] == "alive":
            self.send({"kind": "alive"})
        if wish["want"] in WISHES:
            self._desk.answer(wish, self.send)
