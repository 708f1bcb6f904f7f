"""Data Lake storage through azure-storage-file-datalake and the SDK's datastores of that kind."""

from __future__ import annotations

import os

import pytest
from azure.ai.ml import Input, command
from azure.ai.ml.entities import AzureDataLakeGen2Datastore, Data, Environment
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from azure.storage.filedatalake import DataLakeServiceClient


@pytest.fixture
def storage(client, connection):
    """URL of a service of the workspace's account by its name, and the account's key."""
    found = client.datastores.get_default(include_secrets=True)
    suffix = connection.cloud_metadata["storage_endpoint"]
    urls = {name: f"https://{found.account_name}.{name}.{suffix}" for name in ("blob", "dfs")}
    return urls, found.credentials.account_key, found.account_name


@pytest.fixture
def lake(storage):
    urls, key, _ = storage
    service = DataLakeServiceClient(urls["dfs"], key, retry_total=0)
    return service.create_file_system("lake")


@pytest.mark.parametrize("size", [5, 3_000_000])
def test_what_is_uploaded_comes_back_and_is_a_blob_too(lake, storage, size):
    data = os.urandom(size)
    file = lake.get_file_client("a/b.bin")
    file.upload_data(data, overwrite=True, chunk_size=1_000_000)
    assert file.download_file().readall() == data
    assert file.get_file_properties().size == size
    urls, key, _ = storage
    blob = BlobServiceClient(urls["blob"], key).get_blob_client("lake", "a/b.bin")
    assert blob.download_blob().readall() == data


def test_what_is_appended_is_there_once_it_is_flushed(lake):
    file = lake.create_file("log.txt")
    file.append_data(b"one ", 0)
    file.append_data(b"two", 4)
    assert file.download_file().readall() == b""
    with pytest.raises(HttpResponseError, match="not as long"):
        file.flush_data(99)
    file.flush_data(7)
    file.append_data(b" three", 7)
    file.flush_data(13)
    assert file.download_file().readall() == b"one two three"


def test_directories_are_made_tagged_listed_and_removed(lake):
    directory = lake.create_directory("d", metadata={"team": "a"})
    assert directory.exists()
    assert directory.get_directory_properties().metadata["team"] == "a"
    directory.set_metadata({"team": "b"})
    assert directory.get_directory_properties().metadata["team"] == "b"
    lake.get_file_client("d/e/f.txt").upload_data(b"x", overwrite=True)
    found = [(entry.name, entry.is_directory) for entry in lake.get_paths()]
    assert found == [("d", True), ("d/e", True), ("d/e/f.txt", False)]
    assert [entry.name for entry in lake.get_paths("d", recursive=False)] == ["d/e"]
    directory.delete_directory()
    assert not directory.exists()
    assert list(lake.get_paths()) == []


def test_what_is_not_there_or_not_allowed(lake, storage):
    with pytest.raises(ResourceNotFoundError):
        lake.get_file_client("nothing").get_file_properties()
    with pytest.raises(ResourceNotFoundError):
        list(lake.get_paths("nothing"))
    urls, _, _ = storage
    stranger = DataLakeServiceClient(urls["dfs"], "aGVsbG8=", retry_total=0)
    with pytest.raises(HttpResponseError):
        stranger.get_file_system_client("lake").create_file("x")


def test_a_datastore_of_that_kind_is_uploaded_to_and_read_by_a_job(client, storage, tmp_path):
    _, _, account = storage
    client.datastores.create_or_update(
        AzureDataLakeGen2Datastore(name="lake", account_name=account, filesystem="lake")
    )
    (tmp_path / "a.txt").write_text("from the lake")
    data = Data(name="d", path=tmp_path / "a.txt", type="uri_file", datastore="lake")
    made = client.data.create_or_update(data)
    assert "/datastores/lake/paths/LocalUpload/" in made.path
    job = command(
        command="cat ${{inputs.data}}",
        inputs={"data": Input(type="uri_file", path="azureml:d:1")},
        environment=Environment(image="none.invalid/none"),
        compute="cpu",
    )
    name = client.jobs.create_or_update(job).name
    client.jobs.stream(name)
    client.jobs.download(name, download_path=tmp_path / "got")
    assert "from the lake" in next((tmp_path / "got").rglob("std_log.txt")).read_text()
