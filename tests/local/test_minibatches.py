"""How the input of a parallel job is cut into mini-batches."""

import importlib.util

import pandas as pd
import pytest

from aml_magics.local.drivers.minibatches import BadData, files_in, size_of, split


@pytest.mark.parametrize(
    ("text", "size"),
    [("5", 5), ("10kb", 10240), ("2MB", 2 << 20), ("1 gb", 1 << 30), ("", 0), ("0", 0)],
)
def test_sizes(text, size):
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["ten", "-1", "1tb", "1.5mb"])
def test_what_is_no_size(text):
    with pytest.raises(BadData, match="mini_batch_size"):
        size_of(text)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(0, "2", []), (1, "2", [1]), (4, "2", [2, 2]), (5, "2", [2, 2, 1]), (12, "", [10, 2])],
)
def test_files(tmp_path, count, size, sizes):
    for number in range(count):
        folder = tmp_path / str(number % 2)
        folder.mkdir(exist_ok=True)
        (folder / f"{number:02}").touch()
    batches = list(split(str(tmp_path), size, [], False))
    assert [batch.items for batch in batches] == sizes
    assert [path for batch in batches for path in batch.data] == files_in(str(tmp_path))


def test_one_file_is_one_mini_batch(tmp_path):
    (tmp_path / "a").touch()
    (batch,) = split(str(tmp_path / "a"), "1", [], False)
    assert batch.data == [str(tmp_path / "a")]


@pytest.fixture
def table(tmp_path):
    """Make an MLTable of two files, of three rows and of one; returns its folder."""

    def make(transformations="", paths="[{pattern: './*.csv'}]", read="read_delimited"):
        (tmp_path / "a.csv").write_text("key,x\na,1\nb,2\na,3\n")
        (tmp_path / "b.csv").write_text("key,x\nb,4\n")
        steps = f"  - {read}: {{delimiter: ','}}\n" if read else ""
        text = f"paths: {paths}\ntransformations:\n{steps}{transformations}"
        (tmp_path / "MLTable").write_text(text)
        return str(tmp_path)

    return make


def values(batches):
    return [list(batch.data["x"]) for batch in batches]


@pytest.mark.parametrize(
    ("size", "cut"),
    [("1", [[1], [2], [3], [4]]), ("12", [[1, 2], [3], [4]]), ("1mb", [[1, 2, 3], [4]])],
)
def test_tables_are_cut_by_bytes_and_never_across_files(table, size, cut):
    assert values(split(table(), size, [], True)) == cut


@pytest.mark.parametrize(
    ("transformations", "cut"),
    [
        ("  - take: 2\n", [[1, 2]]),
        ("  - skip: 2\n", [[3], [4]]),
        ("  - skip: 1\n  - take: 2\n", [[2, 3]]),
        ("  - keep_columns: x\n", [[1, 2, 3], [4]]),
        ("  - drop_columns: [key]\n", [[1, 2, 3], [4]]),
        (
            "  - convert_column_types: [{columns: x, column_type: string}]\n",
            [["1", "2", "3"], ["4"]],
        ),
    ],
)
def test_transformations(table, transformations, cut):
    assert values(split(table(transformations), "", [], True)) == cut


def test_partitions_hold_all_rows_of_their_keys(table):
    batches = list(split(table(), "", ["key"], True))
    assert [batch.keys for batch in batches] == [{"key": "a"}, {"key": "b"}]
    assert values(batches) == [[1, 3], [2, 4]]
    assert {batch.items for batch in batches} == {1}


def test_a_partition_key_may_be_in_the_path(tmp_path):
    for store in "pq":
        folder = tmp_path / "sales" / store
        folder.mkdir(parents=True)
        pd.DataFrame({"x": [ord(store)]}).to_parquet(folder / "rows.parquet")
    (tmp_path / "MLTable").write_text("""
paths: [{folder: ./sales}]
transformations:
  - read_parquet
  - extract_columns_from_partition_format: {partition_format: "/{store}/rows.parquet"}
""")
    batches = list(split(str(tmp_path), "", ["store"], True))
    assert [batch.keys for batch in batches] == [{"store": "p"}, {"store": "q"}]


def test_a_table_without_a_header(tmp_path):
    (tmp_path / "a.tsv").write_text("1\t2\n")
    (tmp_path / "MLTable").write_text(
        "paths: [{file: a.tsv}]\n"
        'transformations: [{read_delimited: {delimiter: "\\t", header: no_header}}]\n'
    )
    (batch,) = split(str(tmp_path), "", [], True)
    assert list(batch.data.columns) == ["Column1", "Column2"]


def test_json_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    (tmp_path / "MLTable").write_text(
        "paths: [{file: a.jsonl}]\ntransformations: [{read_json_lines: {}}]\n"
    )
    assert values(split(str(tmp_path), "", [], True)) == [[1, 2]]


def test_a_table_that_reads_nothing_is_a_list_of_files(table):
    (batch,) = split(table(read=""), "5", [], True)
    assert [path.rpartition("/")[2] for path in batch.data] == ["a.csv", "b.csv"]


@pytest.mark.parametrize(
    ("options", "keys", "reason"),
    [
        ({"paths": "[{file: ./none.csv}]"}, [], "none.csv, which is not there"),
        ({"paths": "[{file: 'https://a.invalid/b.csv'}]"}, [], "not on this machine"),
        ({"paths": "text"}, [], "no list of paths"),
        ({}, ["colour"], "no column colour"),
        ({"read": ""}, ["key"], "partition_keys need a tabular input"),
    ],
)
def test_what_cannot_be_cut(table, options, keys, reason):
    with pytest.raises(BadData, match=reason):
        list(split(table(**options), "", keys, True))


@pytest.mark.skipif(importlib.util.find_spec("mltable") is not None, reason="mltable is installed")
def test_a_transformation_for_which_mltable_is_needed(table):
    with pytest.raises(BadData, match="filter needs the package mltable"):
        list(split(table("  - filter: 'col(\"x\") > 1'\n"), "", [], True))


def test_a_table_without_its_file(tmp_path):
    with pytest.raises(BadData, match="no MLTable file"):
        list(split(str(tmp_path), "", [], True))
