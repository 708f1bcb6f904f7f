"""What commands return: small records that show themselves as text, HTML and Markdown."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

Row = tuple[str, str]
HEADING = "text-align:left;white-space:nowrap"
LINK_WIDTH = 64  # characters of an address that are shown; the link has all


class Record:
    """A titled list of fields; subclasses say which."""

    def _title(self) -> str:
        return type(self).__name__

    def _rows(self) -> Iterable[Row]:
        """Field and value pairs; empty values are left out."""
        raise NotImplementedError

    def _shown(self) -> list[Row]:
        return [(key, value) for key, value in self._rows() if value]

    def __repr__(self) -> str:
        width = max((len(key) for key, _ in self._shown()), default=0)
        return "\n".join([self._title(), *(f"  {k:<{width}}  {v}" for k, v in self._shown())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="{HEADING}">{html.escape(key)}</th>'
            f'<td style="text-align:left">{_linked(value)}</td></tr>'
            for key, value in self._shown()
        )
        caption = f'<caption style="text-align:left"><b>{html.escape(self._title())}</b></caption>'
        return f'<table class="aml-static">{caption}{rows}</table>'

    def _repr_markdown_(self) -> str:
        rows = [f"| {_cell(key)} | {_cell(value)} |" for key, value in self._shown()]
        return "\n".join([f"**{self._title()}**", "", "| | |", "|---|---|", *rows])


class Fields(Record):
    """A record of plain data, such as an asset: its fields are its items and attributes."""

    def __init__(self, title: str, data: dict[str, Any]) -> None:
        self.title = title
        self.data = data

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Any:
        return self.data[name]

    def _title(self) -> str:
        return self.title

    def _rows(self) -> list[Row]:
        return [(key, brief(value)) for key, value in self.data.items()]


class Done(Record):
    """That something was done, in one sentence."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _rows(self) -> list[Row]:
        return []

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.text)}</p>"

    def _repr_markdown_(self) -> str:
        return self.text


class Text(str):
    """Text that shows itself without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Secret:
    """A key or token that is never shown; ``.value`` has it."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "•••••••• (.value has it)"

    def __getstate__(self) -> dict[str, str]:
        raise TypeError("a secret is not pickled")


def brief(value: Any) -> str:
    """A field's value in one line."""
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, dict) and all(isinstance(v, dict) for v in value.values()):
        return ", ".join(map(str, value))  # what is within would not fit
    if isinstance(value, dict):
        return ", ".join(f"{k}={brief(v)}" for k, v in value.items() if brief(v))
    if isinstance(value, (list, tuple)):
        return ", ".join(brief(v) for v in value)
    return " ".join(str(value).split())


def _linked(value: str) -> str:
    text = html.escape(value)
    if value.startswith(("http://", "https://")) and " " not in value:
        long = len(value) > LINK_WIDTH
        shown = html.escape(value[:LINK_WIDTH] + "…" if long else value)
        return f'<a href="{text}" target="_blank" rel="noopener">{shown}</a>'
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def exact(table: Any) -> Any:
    """A DataFrame of Python's own values, which pandas' JSON would round; None where one lacks."""
    return table.astype(object).where(table.notna(), None)
