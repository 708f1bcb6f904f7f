"""Data, environments, models and indexes through the unmodified SDK, beyond the main road."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from azure.ai.ml._azure_environments import _get_storage_endpoint_from_metadata
from azure.ai.ml.entities import BuildContext, Data, Environment, Index, Model
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    return path


def test_a_table_of_files(client, tmp_path, table):
    (tmp_path / "MLTable").write_text("paths:\n  - file: ./a.csv\ntransformations: []\n")
    client.data.create_or_update(Data(name="t", path=tmp_path, type="mltable"))
    assert client.data.get("t", version="1").type == "mltable"


def test_data_of_one_name_can_be_archived_whole(client, table):
    client.data.create_or_update(Data(name="t", path=table, type="uri_file"))
    client.data.archive("t")
    assert list(client.data.list()) == []
    client.data.restore("t")
    assert [data.name for data in client.data.list()] == ["t"]


@pytest.mark.parametrize("kind", ["uri_file", "uri_folder", "mltable"])
def test_data_of_each_type_counts_its_versions_and_has_a_latest_one(client, tmp_path, table, kind):
    (tmp_path / "MLTable").write_text("paths:\n  - file: ./a.csv\n")
    asked = {"name": "t", "path": table if kind == "uri_file" else tmp_path, "type": kind}
    for version in (None, None, "9", None):
        client.data.create_or_update(Data(version=version, **asked))
    assert [data.version for data in client.data.list("t")] == ["10", "9", "2", "1"]
    latest = client.data.get("t", label="latest")
    assert (latest.version, latest.type) == ("10", kind)
    client.data.archive("t", label="latest")
    assert client.data.get("t", label="latest").version == "9"
    client.data.restore("t", version="10")
    assert client.data.get("t", label="latest").version == "10"


def test_data_is_changed_by_its_tags_and_description_only(client, table):
    data = client.data.create_or_update(Data(name="t", path=table, type="uri_file"))
    data.tags, data.description = {"a": "b"}, "Good."
    client.data.create_or_update(data)
    found = client.data.get("t", version="1")
    assert (found.tags, found.description) == ({"a": "b"}, "Good.")
    with pytest.raises(HttpResponseError, match="whose dataType cannot be changed"):
        client.data.create_or_update(Data(name="t", version="1", path=data.path, type="uri_folder"))


def test_the_list_of_materializations_fails_in_the_sdk_itself(client):
    # It passes names to the listing of jobs that this does not know; no request is sent.
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        list(client.data.list_materialization_status("t"))


def test_an_environment_from_a_build_context(client, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM none.invalid/none\n")
    asked = Environment(name="b", build=BuildContext(path=tmp_path), tags={"team": "a"})
    made = client.environments.create_or_update(asked)
    found = client.environments.get("b", label="latest")
    assert (found.version, found.tags) == (made.version, {"team": "a"})
    assert found.build.dockerfile_path == "Dockerfile"


def test_a_build_context_comes_back_file_for_file(client, tmp_path):
    context = tmp_path / "context"
    (context / "deep").mkdir(parents=True)
    (context / "Dockerfile.mine").write_text("FROM none.invalid/none\n")
    (context / "deep" / "requirements.txt").write_text("iniconfig\n")
    build = BuildContext(path=context, dockerfile_path="Dockerfile.mine")
    client.environments.create_or_update(Environment(name="b", version="1", build=build))
    found = client.environments.get("b", version="1").build
    assert found.dockerfile_path == "Dockerfile.mine"
    account = client.datastores.get_default(include_secrets=True)
    place = urlsplit(found.path)
    root, _, prefix = place.path.strip("/").partition("/")
    url = f"https://{account.account_name}.blob.{_get_storage_endpoint_from_metadata()}"
    blobs = BlobServiceClient(url, account.credentials.account_key).get_container_client(root)
    got = {
        blob.name.removeprefix(prefix).strip("/"): blobs.download_blob(blob.name).readall()
        for blob in blobs.list_blobs(prefix)
    }
    assert got == {
        "Dockerfile.mine": b"FROM none.invalid/none\n",
        "deep/requirements.txt": b"iniconfig\n",
    }


def test_an_environment_is_archived_and_restored_as_version_and_whole(client):
    for version in ("1", "2"):
        client.environments.create_or_update(Environment(name="e", version=version, image="a/b"))
    client.environments.archive("e", version="2")
    assert [one.version for one in client.environments.list("e")] == ["1"]
    assert client.environments.get("e", label="latest").version == "1"
    client.environments.restore("e", version="2")
    assert [one.version for one in client.environments.list("e")] == ["2", "1"]
    client.environments.archive("e")
    assert [one.name for one in client.environments.list()] == []
    client.environments.restore("e")
    assert [one.name for one in client.environments.list()] == ["e"]


@pytest.mark.parametrize("content", ["just: [broken", "- python=3.11"])
def test_an_environment_whose_conda_file_is_none_is_refused(arm, content):
    body = {"properties": {"condaFile": content, "image": "none.invalid/none"}}
    answer = arm("PUT", "./environments/e/versions/1", body)
    assert (answer.status_code, "The conda file" in answer.text) == (400, True)


def test_an_environment_is_changed_by_its_tags_only(client):
    client.environments.create_or_update(Environment(name="e", version="1", image="a/b"))
    tagged = Environment(name="e", version="1", image="a/b", tags={"x": "y"})
    assert client.environments.create_or_update(tagged).tags == {"x": "y"}
    with pytest.raises(ResourceExistsError, match="whose image cannot be changed"):
        client.environments.create_or_update(Environment(name="e", version="1", image="c/d"))
    client.environments.archive("e", version="1")
    assert list(client.environments.list("e")) == []


def test_a_model_has_a_stage_tags_and_properties(client, table):
    asked = Model(name="m", path=table, stage="Development", tags={"a": "b"}, properties={"p": "q"})
    model = client.models.create_or_update(asked)
    assert (model.stage, model.tags, model.properties) == ("Development", {"a": "b"}, {"p": "q"})
    model.stage, model.tags = "Production", {"c": "d"}
    client.models.create_or_update(model)
    found = client.models.get("m", version="1")
    assert (found.stage, found.tags) == ("Production", {"c": "d"})
    assert [one.version for one in client.models.list("m", stage="Production")] == ["1"]
    assert list(client.models.list("m", stage="Development")) == []


def test_an_index_counts_its_versions(client):
    path = "azureml://datastores/workspaceblobstore/paths/index"
    for version in (None, None, "9"):
        client.indexes.create_or_update(Index(name="i", version=version, path=path))
    assert client.indexes.get("i", label="latest").version == "9"
    assert [index.version for index in client.indexes.list("i")] == ["9", "2", "1"]
    assert [index.name for index in client.indexes.list()] == ["i"]
    with pytest.raises(ResourceNotFoundError):
        client.indexes.get("other", version="1")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"3", b"null", {}, {"properties": 3}, {"properties": None}, b"\xff"],
)
@pytest.mark.parametrize("kind", ["data", "environments", "models", "components", "featuresets"])
def test_what_is_no_asset_is_refused(arm, kind, body):
    assert arm("PUT", f"./{kind}/x/versions/1", body).status_code == 400


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a%20b", "-x", "x" * 256, "a%00b", "é"])
@pytest.mark.parametrize("part", ["./data/{}/versions/1", "./data/x/versions/{}"])
def test_a_name_that_is_a_path_or_worse_is_refused(arm, name, part):
    body = {"properties": {"dataUri": "azureml://datastores/workspaceblobstore/paths/x"}}
    assert arm("PUT", part.format(name), body).status_code in (400, 404, 501)


def test_a_name_may_not_hold_a_path_of_another_resource(arm):
    arm("PUT", "./data/..%2f..%2fdata%2fx/versions/1", {"properties": {"dataUri": "x"}})
    assert arm("GET", "./data").json()["value"] == []


def test_the_second_writer_of_a_version_is_refused(client, arm):
    uri = "azureml://datastores/workspaceblobstore/paths/{}"
    first = arm("PUT", "./data/t/versions/1", {"properties": {"dataUri": uri.format("a")}})
    again = arm("PUT", "./data/t/versions/1", {"properties": {"dataUri": uri.format("a")}})
    other = arm("PUT", "./data/t/versions/1", {"properties": {"dataUri": uri.format("b")}})
    assert [first.status_code, again.status_code, other.status_code] == [201, 200, 409]
    with pytest.raises(HttpResponseError, match="whose dataUri cannot be changed"):
        client.data.create_or_update(Data(name="t", version="1", path=uri.format("c")))


def test_a_snapshot_is_found_by_its_content(arm):
    def put(name, content, place):
        own = {"hash_sha256": content, "hash_version": "202208"}
        body = {"properties": {"properties": own, "codeUri": f"https://a.invalid/{place}"}}
        return arm("PUT", f"./codes/{name}/versions/1", body)

    assert arm("GET", "./codes/any/versions?hash=aa&hashVersion=202208").json()["value"] == []
    assert put("one", "aa", "first").status_code == 201
    (found,) = arm("GET", "./codes/any/versions?hash=aa&hashVersion=202208").json()["value"]
    assert found["id"].endswith("/codes/one/versions/1")
    again = put("one", "aa", "second")
    assert (again.status_code, again.json()["properties"]["codeUri"][-5:]) == (200, "first")
    assert put("one", "bb", "second").status_code == 409
    assert arm("GET", "./codes/any/versions?hash=bb&hashVersion=202208").json()["value"] == []
