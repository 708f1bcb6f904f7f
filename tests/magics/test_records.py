"""Results as people see them."""

from __future__ import annotations

import json
import math
import pickle

import pandas as pd
import pytest

from aml_magics.display import shaped
from aml_magics.records import Done, Fields, Secret, brief

RECORD = Fields(
    "thing a", {"name": "a", "url": "https://x.org/?a=1&b=2", "empty": "", "p|q": "<b>"}
)


def test_a_record_shows_itself_in_three_forms():
    assert repr(RECORD) == "thing a\n  name  a\n  url   https://x.org/?a=1&b=2\n  p|q   <b>"
    assert '<a href="https://x.org/?a=1&amp;b=2"' in RECORD._repr_html_()
    assert "&lt;b&gt;" in RECORD._repr_html_()
    assert r"| p\|q | <b> |" in RECORD._repr_markdown_()


def test_fields_are_attributes_and_items():
    assert RECORD.url == RECORD["url"]
    with pytest.raises(AttributeError):
        _ = RECORD.nothing


def test_a_secret_is_shown_nowhere():
    secret = Secret("s3cr3t")
    record = Fields("keys", {"primary_key": secret})
    forms = [shaped(record, form=form) for form in ("json", "yaml", "table", "tsv")]

    assert "s3cr3t" not in "".join(
        [repr(secret), str(secret), f"{secret}", repr(record), record._repr_html_(), *forms]
    )
    assert secret.value == "s3cr3t"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ({"a": 1, "b": None}, "a=1"),
        ({"a": {"x": 1}, "b": {}}, "a, b"),
        (["a", 2], "a, 2"),
        ("two\nlines", "two lines"),
        (0, "0"),
    ],
)
def test_a_value_is_brief(value, text):
    assert brief(value) == text


def test_formats_and_queries():
    data = [{"name": "a", "n": 1}, {"name": "b", "n": 2}]

    assert shaped(data) is data
    table = pd.DataFrame({"rate": [1e-12, math.inf], "at": [pd.Timestamp("2026-01-02"), None]})
    assert json.loads(str(shaped(table, form="json"))) == [
        {"rate": 1e-12, "at": "2026-01-02T00:00:00"},
        {"rate": None, "at": None},
    ]
    assert shaped(data, query="[?n > `1`].name") == ["b"]
    assert repr(shaped(data, form="tsv")) == "a\t1\nb\t2"
    assert shaped(data, form="table").split() == ["name", "n", "a", "1", "b", "2"]
    assert shaped(data, query="[0]", form="yaml") == "name: a\nn: 1"
    assert shaped(data, query="[0].name", form="yaml") == "a"
    assert shaped({"a": {"x": 1}, "b": [1, 2]}, form="tsv") == "x=1\t1, 2"
    assert shaped(Done("x"), form="json") == "{}"
