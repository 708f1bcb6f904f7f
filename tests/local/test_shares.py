"""File shares through azure-storage-file-share and the SDK's datastores of that kind."""

from __future__ import annotations

import os

import pytest
from azure.ai.ml import Input, Output, command
from azure.ai.ml._artifacts._fileshare_storage_helper import FileStorageClient
from azure.ai.ml.entities import Data, Environment
from azure.ai.ml.exceptions import MlException
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.fileshare import ShareServiceClient

STORES = ("workspacefilestore", "workspaceworkingdirectory")


@pytest.fixture
def service(client, connection):
    found = client.datastores.get("workspacefilestore", include_secrets=True)
    suffix = connection.cloud_metadata["storage_endpoint"]
    url = f"https://{found.account_name}.file.{suffix}"
    return ShareServiceClient(url, found.credentials.account_key, retry_total=0)


@pytest.fixture
def share(service, client):
    return service.get_share_client(client.datastores.get("workspacefilestore").file_share_name)


@pytest.fixture
def folder(share):
    return share.create_directory("a")


@pytest.mark.parametrize("size", [0, 5, 9_000_000])
def test_what_is_uploaded_comes_back(folder, size):
    content = os.urandom(size)
    folder.upload_file("b.bin", content, metadata={"x": "y"})
    file = folder.get_file_client("b.bin")
    assert file.download_file().readall() == content
    found = file.get_file_properties()
    assert (found.size, found.metadata) == (size, {"x": "y"})
    if size:
        assert file.download_file(offset=1, length=3).readall() == content[1:4]
    file.set_file_metadata({"z": "1"})
    assert file.get_file_properties().metadata == {"z": "1"}


def test_a_range_is_written_in_its_place(folder):
    file = folder.get_file_client("f")
    file.create_file(6, metadata={"x": "y"})
    assert file.download_file().readall() == bytes(6)
    file.upload_range(b"ab", offset=2, length=2, validate_content=True)
    assert file.download_file().readall() == b"\0\0ab\0\0"
    assert file.get_file_properties().metadata == {"x": "y"}
    with pytest.raises(HttpResponseError, match="not in the file"):
        file.upload_range(b"ab", offset=5, length=2)
    with pytest.raises(ResourceNotFoundError):
        folder.get_file_client("none").upload_range(b"ab", offset=0, length=2)


def test_directories_are_made_tagged_listed_and_removed(share, folder):
    with pytest.raises(ResourceExistsError):
        share.create_directory("a")
    with pytest.raises(ResourceNotFoundError):
        share.create_directory("none/b")
    folder.set_directory_metadata({"x": "y"})
    assert folder.get_directory_properties().metadata["x"] == "y"
    below = folder.create_subdirectory("below")
    below.upload_file("f", b"12345")
    folder.upload_file("e", b"1")
    directory, file = folder.list_directories_and_files()
    assert [(one.name, one.is_directory) for one in (directory, file)] == [
        ("below", True),
        ("e", False),
    ]
    assert file.size == 1
    names = [item.name for item in folder.list_directories_and_files(name_starts_with="b")]
    assert names == ["below"]
    with pytest.raises(HttpResponseError, match="not empty"):
        below.delete_directory()
    below.delete_file("f")
    assert below.exists()
    below.delete_directory()
    assert not below.exists()
    assert [item.name for item in share.list_directories_and_files()] == ["a"]


def test_a_listing_goes_over_many_pages(folder):
    names = [f"{number:02}" for number in range(7)]
    for name in names:
        folder.upload_file(name, b"")
    pages = folder.list_directories_and_files(results_per_page=3)
    assert [item.name for item in pages] == names


def test_a_share_is_made_and_looked_at(service):
    made = service.create_share("other")
    assert made.get_share_properties().name == "other"
    with pytest.raises(ResourceExistsError):
        service.create_share("other")
    with pytest.raises(ResourceNotFoundError):
        service.get_share_client("none").get_directory_client("a").create_directory()


@pytest.mark.parametrize(
    "ask",
    [
        lambda share, file: file.clear_range(0, 512),
        lambda share, file: share.delete_share(),
        lambda share, file: share.get_directory_client().delete_directory(),
        lambda share, file: share.create_snapshot(),
        lambda share, file: file.acquire_lease(),
        lambda share, file: file.rename_file("g"),
    ],
    ids=["clear", "delete", "delete the root", "snapshot", "lease", "rename"],
)
def test_what_is_not_emulated_says_so_by_name(share, folder, ask):
    folder.upload_file("f", bytes(512))
    with pytest.raises(HttpResponseError) as refusal:
        ask(share, folder.get_file_client("f"))
    assert refusal.value.status_code == 501


def test_another_key_opens_nothing(service, share):
    wrong = ShareServiceClient(service.url, "AAAA", retry_total=0)
    with pytest.raises(HttpResponseError) as refusal:
        wrong.get_share_client(share.share_name).create_directory("x")
    assert refusal.value.status_code == 403


@pytest.mark.parametrize("store", STORES)
def test_a_job_reads_and_writes_what_is_in_a_share(client, service, store):
    share = service.get_share_client(client.datastores.get(store).file_share_name)
    share.create_directory("d").upload_file("a.txt", b"from the share")
    place = f"azureml://datastores/{store}/paths"
    job = command(
        command="cp ${{inputs.data}}/a.txt ${{outputs.copy}}/b.txt",
        inputs={"data": Input(type="uri_folder", path=f"{place}/d")},
        outputs={"copy": Output(type="uri_folder", path=f"{place}/out")},
        environment=Environment(image="none.invalid/none"),
        compute="cpu",
    )
    client.jobs.stream(client.jobs.create_or_update(job).name)
    copied = share.get_file_client("out/b.txt")
    assert copied.download_file().readall() == b"from the share"


def test_the_sdks_own_helper_uploads_once_and_downloads(service, share, tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.txt").write_text("a")
    (tmp_path / "data" / "empty.txt").write_text("")
    helper = FileStorageClient(service.credential.account_key, share.share_name, service.url)
    asked = {"asset_hash": "abc", "show_progress": False}
    first = helper.upload(str(tmp_path / "data"), "d", "1", **asked)
    assert helper.exists("abc")
    again = helper.upload(str(tmp_path / "data"), "other", "7", **asked)
    assert (first["name"], again["name"], again["version"]) == ("d", "d", "1")
    helper.download("abc", tmp_path / "got")
    got = {path.name: path.read_text() for path in (tmp_path / "got").rglob("*.txt")}
    assert got == {"a.txt": "a", "empty.txt": ""}


def test_the_sdk_itself_uploads_to_no_share(client, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    data = Data(name="d", path=tmp_path, datastore="workspacefilestore")
    with pytest.raises(MlException, match="not supported for uploads"):
        client.data.create_or_update(data)
