"""Data that is moved: between datastores, and from and to what connections lead to."""

import sqlite3

import pandas as pd
import pytest
from azure.ai.ml import load_job
from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri
from azure.ai.ml.data_transfer import Database, FileSystem
from azure.ai.ml.entities import (
    AzureBlobDatastore,
    CronTrigger,
    DataImport,
    ImportDataSchedule,
)

from aml_magics.local import daemon
from tests.conftest import client_of, connect

HERE = "azureml://datastores/workspaceblobstore/paths"


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """The folder that stands for storage elsewhere, with what two connections lead to."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "connections" / "files" / "deep").mkdir(parents=True)
    (folder / "connections" / "files" / "deep" / "a.txt").write_text("far away")
    database = sqlite3.connect(folder / "connections" / "sales.sqlite")
    database.execute("create table sold (store text, amount integer)")
    database.executemany("insert into sold values (?, ?)", [("a", 1), ("b", 2), ("a", 3)])
    database.commit()
    database.close()
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory, elsewhere):
    """A daemon of its own, that knows the folder."""
    home = tmp_path_factory.mktemp("transfer home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AML_LOCAL_DATA", str(elsewhere))
        found = daemon.ensure(home)
    yield found
    daemon.stop(home)


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline job of the steps in some YAML."""

    def make(steps):
        file = tmp_path / "pipeline.yml"
        file.write_text("type: pipeline\nsettings: {default_compute: azureml:adf}\n" + steps)
        return load_job(file)

    return make


@pytest.fixture
def folders(tmp_path):
    """Two folders that both have a file `both`, and one each of their own."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in (name, "both"):
            (tmp_path / name / file).write_text(f"{file} of {name}")
    return tmp_path


def copy(mode, place):
    return f"""
inputs: {{one: {{type: uri_folder, path: ./one}}, two: {{type: uri_folder, path: ./two}}}}
jobs:
  merge:
    type: data_transfer
    task: copy_data
    inputs: {{one: "${{{{parent.inputs.one}}}}", two: "${{{{parent.inputs.two}}}}"}}
    outputs: {{merged: {{type: uri_folder, path: {place}}}}}
    data_copy_mode: {mode}
"""


@pytest.fixture
def files(client, children, tmp_path):
    """The files of an output of the only step of a pipeline: names and contents."""

    def call(job, output):
        (step,) = children(job).values()
        client.jobs.download(step.name, download_path=tmp_path / "got", output_name=output)
        folder = tmp_path / "got" / "named-outputs" / output
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path for path in found}

    return call


def test_folders_are_merged_and_the_later_wins(run, pipeline, folders, files):
    job = run(pipeline(copy("merge_with_overwrite", f"{HERE}/merged/")))
    assert job.status == "Completed"
    found = {name: path.read_text() for name, path in files(job, "merged").items()}
    assert found == {"one": "one of one", "two": "two of two", "both": "both of two"}


def test_a_conflict_fails_and_nothing_is_copied(run, pipeline, folders, files, why):
    job = run(pipeline(copy("fail_if_conflict", f"{HERE}/conflict/")))
    assert job.status == "Failed"
    assert "both is there already" in why(job)
    assert files(job, "merged") == {}


def test_data_is_copied_to_another_accounts_datastore_and_back(
    client, run, pipeline, folders, elsewhere, files
):
    store = AzureBlobDatastore(name="away", account_name="faraway", container_name="box")
    client.create_or_update(store)
    job = run(pipeline(copy("merge_with_overwrite", "azureml://datastores/away/paths/to/here/")))
    assert job.status == "Completed"
    place = elsewhere / "faraway.blob.core.windows.net" / "box" / "to" / "here"
    assert (place / "two").read_text() == "two of two"
    back = run(
        pipeline(f"""
inputs: {{away: {{type: uri_folder, path: azureml://datastores/away/paths/to/here/}}}}
jobs:
  back:
    type: data_transfer
    task: copy_data
    inputs: {{away: "${{{{parent.inputs.away}}}}"}}
    outputs: {{here: {{type: uri_folder, path: {HERE}/back/}}}}
""")
    )
    assert sorted(files(back, "here")) == ["both", "one", "two"]


def test_rows_of_a_database_become_a_table_that_is_an_asset(client, ended, tmp_path):
    source = Database(
        query="select store, sum(amount) as total from sold group by store",
        connection="azureml:sales",
    )
    asked = DataImport(name="totals", path=f"{HERE}/imported", source=source)
    job = client.data.import_data(asked)
    assert ended(job).status == "Completed"
    made = client.data.get("totals", version="1")
    assert made.type == "mltable"
    download_artifact_from_aml_uri(made.path, str(tmp_path), client.datastores)
    assert pd.read_parquet(tmp_path / "rows.parquet").values.tolist() == [["a", 4], ["b", 2]]
    assert "rows.parquet" in (tmp_path / "MLTable").read_text()


def test_files_of_a_file_system_are_imported(run, pipeline, files):
    job = run(
        pipeline("""
jobs:
  files:
    type: data_transfer
    task: import_data
    source: {type: file_system, path: "s3://deep", connection: "azureml:files"}
    outputs: {sink: {type: uri_folder}}
""")
    )
    assert job.status == "Completed"
    assert files(job, "sink")["a.txt"].read_text() == "far away"


def test_rows_of_a_file_are_exported(run, pipeline, tmp_path, elsewhere):
    (tmp_path / "rows.csv").write_text("store,amount\nnew,9\n")
    job = run(
        pipeline("""
jobs:
  rows:
    type: data_transfer
    task: export_data
    inputs: {source: {type: uri_file, path: ./rows.csv}}
    sink: {type: database, table_name: returned, connection: "azureml:sales"}
""")
    )
    assert job.status == "Completed"
    with sqlite3.connect(elsewhere / "connections" / "sales.sqlite") as database:
        assert database.execute("select * from returned").fetchall() == [("new", 9)]


def test_a_query_that_fails_says_why(run, pipeline, why):
    job = run(
        pipeline("""
jobs:
  rows:
    type: data_transfer
    task: import_data
    source: {type: database, query: "select * from nowhere", connection: "azureml:sales"}
    outputs: {sink: {type: mltable}}
""")
    )
    assert job.status == "Failed"
    assert "no such table: nowhere" in why(job)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("{type: database, query: q, connection: 'azureml:none'}", "connections/none.sqlite"),
        ("{type: file_system, path: x, connection: 'azureml:none'}", "connections/none"),
    ],
)
def test_what_is_not_on_this_machine_is_refused_before_anything_runs(
    client, pipeline, source, place
):
    kind = "mltable" if "database" in source else "uri_folder"
    job = pipeline(f"""
jobs:
  first:
    type: command
    command: echo
    environment: {{image: none.invalid/none}}
  far:
    type: data_transfer
    task: import_data
    source: {source}
    outputs: {{sink: {{type: {kind}}}}}
""")
    with pytest.raises(Exception, match=f"NotImplemented[^$]*Put {place} under") as failure:
        client.jobs.create_or_update(job)
    assert failure.value.status_code == 501
    assert list(client.jobs.list()) == []


def test_a_schedule_imports_data(client, arm, ended):
    source = FileSystem(path="deep", connection="azureml:files")
    asked = DataImport(name="nightly", path=f"{HERE}/nightly/${{{{name}}}}", source=source)
    trigger = CronTrigger(expression="0 1 1 1 *")
    schedule = ImportDataSchedule(name="import", trigger=trigger, import_data=asked)
    client.schedules.begin_create_or_update(schedule).result()
    made = client.schedules.trigger("import")
    assert ended(client.jobs.get(made.job_name)).status == "Completed"
    assert client.data.get("nightly", version="1").type == "uri_folder"


def test_a_daemon_without_such_a_folder_refuses(pipeline, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("bare home")
    try:
        client = client_of(connect(daemon.ensure(home), monkeypatch))
        with pytest.raises(Exception, match="Put connections/files under"):
            client.data.import_data(
                DataImport(name="x", path=HERE, source=FileSystem(path="d", connection="files"))
            )
    finally:
        daemon.stop(home)
