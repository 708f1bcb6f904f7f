"""MLTables as inputs of jobs, through the unmodified SDK."""

import pytest
from azure.ai.ml import Input, command
from azure.ai.ml.entities import Data, Environment

ENVIRONMENT = Environment(image="none.invalid/none")
MLTABLE = """
paths: {paths}
transformations:
  - read_delimited: {{delimiter: ","}}
"""
SHOW = """python -c "
import sys, yaml, pandas as pd
from pathlib import Path
folder = Path(sys.argv[1])
for entry in yaml.safe_load((folder / 'MLTable').read_text())['paths']:
    kind, text = next(iter(entry.items()))
    place = folder / text
    for path in sorted(place.parent.glob(place.name)):
        print(path.name, pd.read_csv(path)['x'].sum())
" ${{inputs.table}} > outputs/sums"""


@pytest.fixture
def table(tmp_path):
    """Make the folder of a table of a CSV file and of other paths."""
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / "here.csv").write_text("x\n1\n2\n")

    def make(*others):
        paths = ["{file: ./here.csv}", *others]
        (folder / "MLTable").write_text(MLTABLE.format(paths=f"[{', '.join(paths)}]"))
        return str(folder)

    return make


@pytest.fixture
def sums(client, run, tmp_path):
    """What a job finds in its table: file and sum of each path."""

    def call(given):
        job = run(
            command(command=SHOW, environment=ENVIRONMENT, inputs={"table": given}, compute="cpu")
        )
        assert job.status == "Completed"
        client.jobs.download(job.name, download_path=tmp_path / job.name)
        return (tmp_path / job.name / "artifacts" / "outputs" / "sums").read_text().splitlines()

    return call


@pytest.mark.parametrize("mode", [None, "eval_mount", "eval_download", "ro_mount", "direct"])
def test_a_table_is_a_folder_whose_paths_work(table, sums, mode):
    assert sums(Input(type="mltable", path=table(), mode=mode)) == ["here.csv 3"]


def test_a_table_may_be_an_asset(client, table, sums):
    asset = client.data.create_or_update(Data(name="rows", type="mltable", path=table()))
    assert sums(Input(type="mltable", path=f"azureml:rows:{asset.version}")) == ["here.csv 3"]


def test_a_table_names_data_by_its_uri(client, arm, table, sums, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    for number in (1, 2):
        (more / f"{number}.csv").write_text(f"x\n{number}0\n")
    uri = client.data.create_or_update(Data(name="more", type="uri_folder", path=str(more))).path
    short = uri[uri.index("datastores/") :].rstrip("/")
    others = (f"{{file: 'azureml://{short}/2.csv'}}", f"{{pattern: '{uri.rstrip('/')}/*.csv'}}")
    # The SDK would fetch what a local table names: this one is put where it does not look.
    folder = table(*others)
    plain = client.data.create_or_update(Data(name="plain", type="uri_folder", path=folder))
    body = {"properties": {"dataType": "mltable", "dataUri": plain.path}}
    assert arm("PUT", "./data/far/versions/1", body).status_code == 201
    found = sums(Input(type="mltable", path="azureml:far:1"))
    assert found == ["here.csv 3", "2.csv 20", "1.csv 10", "2.csv 20"]


def test_a_folder_that_is_no_table_fails_the_job(client, arm, ended, why, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()
    plain = client.data.create_or_update(
        Data(name="plain", type="uri_folder", path=str(tmp_path / "folder"))
    )
    body = {"properties": {"dataType": "mltable", "dataUri": plain.path}}
    assert arm("PUT", "./data/none/versions/1", body).status_code == 201
    given = Input(type="mltable", path="azureml:none:1")
    job = command(command="echo", environment=ENVIRONMENT, inputs={"t": given}, compute="cpu")
    done = ended(client.jobs.create_or_update(job))
    assert "has no file MLTable" in why(done)


@pytest.mark.slow
def test_azures_own_package_loads_a_table(run, table):
    conda = {"dependencies": ["python=3.11", {"pip": ["mltable", "pandas"]}]}
    line = (
        "python -c \"import mltable; table = mltable.load('${{inputs.table}}'); "
        "assert table.to_pandas_dataframe()['x'].sum() == 3\""
    )
    environment = Environment(image="none.invalid/none", conda_file=conda)
    given = {"table": Input(type="mltable", path=table())}
    job = command(command=line, environment=environment, inputs=given, compute="cpu")
    assert run(job, 600).status == "Completed"
