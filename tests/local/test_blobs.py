"""Blob storage through azure-storage-blob, and what it must refuse."""

from __future__ import annotations

import io
import os
import threading
from base64 import b64encode
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psutil
import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import (
    BlobSasPermissions,
    BlobServiceClient,
    ContainerSasPermissions,
    generate_blob_sas,
    generate_container_sas,
)

from aml_magics.local import daemon

MIB = 1 << 20


@pytest.fixture
def store(client):
    """The default datastore: account, container and key."""
    found = client.datastores.get_default(include_secrets=True)
    return found.account_name, found.container_name, found.credentials.account_key


@pytest.fixture
def service(connection):
    """A client of the storage service, with the key or another credential."""

    def make(account, credential, **options):
        suffix = connection.cloud_metadata["storage_endpoint"]
        url = f"https://{account}.blob.{suffix}"
        options = {"retry_total": 0, "max_single_put_size": MIB, "max_block_size": MIB, **options}
        return BlobServiceClient(url, credential, **options)

    return make


@pytest.fixture
def container(store, service):
    account, name, key = store
    return service(account, key).get_container_client(name)


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 7])
def test_what_is_uploaded_comes_back(container, size):
    data = os.urandom(size)
    blob = container.upload_blob("folder/data.bin", data, metadata={"colour": "blue"})
    assert blob.download_blob().readall() == data
    properties = blob.get_blob_properties()
    assert (properties.size, properties.metadata) == (size, {"colour": "blue"})


def test_the_md5_of_content_is_told(container):
    blob = container.upload_blob("x", b"")
    told = blob.get_blob_properties().content_settings.content_md5
    assert b64encode(told).decode() == "1B2M2Y8AsgTpgAmY7PhCfg=="


def test_a_range_is_a_part(container):
    blob = container.upload_blob("x", b"0123456789")
    assert blob.download_blob(offset=2, length=3).readall() == b"234"
    assert blob.download_blob(offset=8, length=100).readall() == b"89"


@pytest.mark.parametrize(
    "name",
    ["a b/ä+%#/x=1&y.txt", "a%20b%2fc", "x.partial", "a\x01b/c", "~'\"<&>", "\N{GRINNING FACE}"],
)
def test_names_of_any_letters(container, name):
    container.upload_blob(name, b"1")
    assert [blob.name for blob in container.list_blobs()] == [name]
    assert container.download_blob(name).readall() == b"1"


def test_listing_by_prefix_folder_and_page(container):
    for name in ("a/1", "a/2", "a/b/3", "c"):
        container.upload_blob(name, b"")
    assert [b.name for b in container.list_blobs("a/")] == ["a/1", "a/2", "a/b/3"]
    assert sorted(b.name for b in container.walk_blobs("a/")) == ["a/1", "a/2", "a/b/"]
    pages = container.list_blobs(results_per_page=3).by_page()
    assert [[blob.name for blob in page] for page in pages] == [["a/1", "a/2", "a/b/3"], ["c"]]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_page_size_shows_everything_once(container, size):
    names = ["a-1", "a/1", "a/2", "a/b/3", "a/b/4", "a0", "b/c/d", "b.c"]
    for name in names:
        container.upload_blob(name, b"", overwrite=True)
    pages = list(container.list_blobs(results_per_page=size).by_page())
    assert [blob.name for page in pages for blob in page] == sorted(names)
    folders = [entry.name for entry in container.walk_blobs("", results_per_page=size)]
    assert sorted(folders) == ["a-1", "a/", "a0", "b.c", "b/"]


def test_a_large_folder_is_listed_in_pages_while_it_changes(container, store, address):
    account, name, _ = store
    folder = address.home / "storage" / account / name / "many"
    for number in range(5200):
        path = folder / f"{number % 10}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    seen = []
    for page in container.list_blobs("many/", results_per_page=1000).by_page():
        seen += [blob.name for blob in page]
        container.upload_blob(f"many/0/{len(seen)}x", b"")  # before the marker, after the first
        (folder / "9" / f"{5199 - len(seen) // 1000 * 10:04}").unlink()
    expected = {f"many/{n % 10}/{n:04}" for n in range(5200)}
    assert len(seen) == len({*seen})
    assert len(expected - {*seen}) <= 5
    assert len(list(container.list_blobs("many/3/"))) == 520
    assert len(list(container.walk_blobs("many/"))) == 10


def test_a_folder_ends_with_its_last_blob(container):
    container.upload_blob("a/b/c", b"1")
    with pytest.raises(ResourceExistsError):
        container.upload_blob("a/b", b"1")
    container.delete_blob("a/b/c")
    container.upload_blob("a", b"1")


def test_a_write_may_depend_on_the_etag(container):
    blob = container.upload_blob("x", b"1")
    etag = blob.get_blob_properties().etag
    blob.upload_blob(b"2", overwrite=True, etag=etag, match_condition=MatchConditions.IfNotModified)
    for refused in (blob.upload_blob, blob.download_blob, blob.delete_blob):
        body = {"data": b"3", "overwrite": True} if refused == blob.upload_blob else {}
        with pytest.raises(ResourceModifiedError):
            refused(**body, etag=etag, match_condition=MatchConditions.IfNotModified)
    assert blob.download_blob().readall() == b"2"


def test_what_arrives_damaged_is_refused(container):
    blob = container.upload_blob("x", b"1", metadata={"a": "1"})
    headers = {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}  # of nothing
    with pytest.raises(HttpResponseError, match="Md5Mismatch"):
        blob.upload_blob(b"2", overwrite=True, headers=headers)
    assert blob.download_blob().readall() == b"1"
    assert blob.get_blob_properties().metadata == {"a": "1"}


def test_a_blob_has_what_came_with_its_own_content(container):
    blob = container.upload_blob("x", b"1", metadata={"a": "1"})
    blob.upload_blob(b"2", overwrite=True)
    assert blob.get_blob_properties().metadata == {}
    blob.set_blob_metadata({"b": "2"})
    blob.delete_blob()
    assert container.upload_blob("x", b"3").get_blob_properties().metadata == {}


@pytest.mark.parametrize("write", ["upload_page", "append_block", "start_copy_from_url"])
def test_other_kinds_of_blobs_are_refused_by_name(container, write):
    blob = container.get_blob_client("other")
    writes = {
        "upload_page": lambda: blob.create_page_blob(512),
        "append_block": blob.create_append_blob,
        "start_copy_from_url": lambda: blob.start_copy_from_url("https://x.invalid/y"),
    }
    with pytest.raises(HttpResponseError) as caught:
        writes[write]()
    assert caught.value.status_code == 501
    assert not blob.exists()


def test_an_existing_blob_is_replaced_only_when_asked(container):
    container.upload_blob("x", b"1")
    with pytest.raises(ResourceExistsError):
        container.upload_blob("x", b"2")
    container.upload_blob("x", b"2", overwrite=True)
    assert container.download_blob("x").readall() == b"2"


def test_a_deleted_blob_is_gone(container):
    container.upload_blob("x", b"1")
    container.delete_blob("x")
    with pytest.raises(ResourceNotFoundError):
        container.download_blob("x")


def test_a_wrong_key_is_refused(store, service):
    account, name, _ = store
    other = service(account, "d3Jvbmc=").get_container_client(name)
    with pytest.raises(ClientAuthenticationError):
        other.upload_blob("x", b"1")


def signature(store, **options):
    account, container, key = store
    options = {"permission": "r", "expiry": datetime.now(UTC) + timedelta(hours=1), **options}
    permission = BlobSasPermissions.from_string(options.pop("permission"))
    return generate_blob_sas(
        account, container, "x", account_key=key, permission=permission, **options
    )


def test_a_signature_opens_one_blob_for_what_it_says(container, store, service):
    container.upload_blob("x", b"1")
    container.upload_blob("y", b"1")
    account, name, _ = store
    signed = service(account, signature(store)).get_container_client(name)
    assert signed.download_blob("x").readall() == b"1"
    for refused in (
        lambda: signed.download_blob("y"),
        lambda: signed.upload_blob("x", b"2", overwrite=True),
        lambda: list(signed.list_blobs()),
    ):
        with pytest.raises(HttpResponseError) as caught:
            refused()
        assert caught.value.status_code == 403


def test_a_page_in_a_blob_runs_no_scripts(container, store, service):
    container.upload_blob("x", b"<script></script>")
    account, name, _ = store
    signed = service(account, signature(store)).get_blob_client(name, "x")
    answers = []
    signed.download_blob(raw_response_hook=lambda one: answers.append(one.http_response.headers))
    assert answers[0]["Content-Security-Policy"] == "sandbox"
    assert answers[0]["X-Content-Type-Options"] == "nosniff"


def test_an_expired_signature_is_refused(container, store, service):
    container.upload_blob("x", b"1")
    account, name, _ = store
    expired = signature(store, expiry=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(ClientAuthenticationError):
        service(account, expired).get_container_client(name).download_blob("x")


@pytest.fixture
def signed(store, service, address):
    """Ask for a blob with a signature for a container, made with the account's own key."""
    account, container, key = store

    def ask(verb, *, permission="rw", other_container="", other_account="", expired=False, **query):
        start = datetime.now(UTC) - timedelta(hours=2)
        allowed = ContainerSasPermissions.from_string(permission)
        expiry = start + timedelta(hours=1 if expired else 3)
        sas = generate_container_sas(
            account, container, key, permission=allowed, expiry=expiry, start=start
        )
        url = (
            f"{address.url}/blob/{other_account or account}/{other_container or container}/x?{sas}"
        )
        return requests.request(verb, url, data=b"1", params=query, timeout=30)

    return ask


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 201),
        ({"permission": "r"}, 403),
        ({"permission": "d"}, 403),
        ({"other_container": "azureml"}, 403),
        ({"other_account": "aml" + 21 * "0"}, 403),
        ({"expired": True}, 403),
        ({"sp": "rwdl"}, 403),
        ({"se": "2999-01-01T00:00:00Z"}, 403),
    ],
)
def test_a_signature_is_for_what_it_says_only(signed, asked, status):
    answer = signed("PUT", **asked)
    assert answer.status_code == status
    assert status == 201 or answer.headers["x-ms-error-code"].startswith("Auth")


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "..%2f..%2fevil", "%2e%2e/evil", "a\\..\\evil"]
)
def test_no_name_leaves_its_container(address, connection, store, name):
    account, container, _ = store
    url = f"{address.url}/blob/{account}/{container}/{name}"
    request = requests.Request("PUT", url, data=b"evil").prepare()
    request.url = url  # as written: requests would tidy the dots away
    request.headers["Authorization"] = f"Bearer {connection.token}"
    with requests.Session() as session:
        answer = session.send(request, timeout=10)
    assert answer.status_code in (400, 501)
    assert not list(address.home.rglob("*evil"))


class Zeros(io.RawIOBase):
    """So many bytes of nothing, made as they are read."""

    def __init__(self, size):
        self.left = size

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), self.left)
        buffer[:size] = bytes(size)
        self.left -= size
        return size


@pytest.mark.parametrize(
    "size",
    [256 * MIB, pytest.param(2048 * MIB, marks=pytest.mark.slow)],
    ids=["256 MiB", "2 GiB"],
)
@pytest.mark.parametrize("way", ["blocks", "one stream"])
def test_memory_does_not_grow_with_what_passes(client, store, service, address, size, way):
    """Uploading and reading a large blob costs the daemon less than 64 MiB."""
    assert list(client.models.list()) == []  # MLflow is loaded, and grows no more
    account, name, key = store
    single = 4096 * MIB if way == "one stream" else MIB
    options = {"max_single_put_size": single, "max_block_size": 8 * MIB}
    container = service(account, key, **options).get_container_client(name)
    container.upload_blob("warm", b"1")
    with watched(psutil.Process(daemon.find(address.home).pid)) as memory:
        blob = container.upload_blob("large", Zeros(size), length=size, max_concurrency=4)
        read = sum(len(chunk) for chunk in blob.download_blob(max_concurrency=2).chunks())
    assert (read, blob.get_blob_properties().size) == (size, size)
    assert memory.growth < 64 * MIB
    blob.delete_blob()


@contextmanager
def watched(process):
    """How much more memory than at the start a process ever had while the block ran."""
    memory, ended = SimpleNamespace(growth=0), threading.Event()
    before = process.memory_info().rss

    def look():
        while not ended.wait(0.02):
            memory.growth = max(memory.growth, process.memory_info().rss - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def test_a_container_must_be_there(store, service):
    account, _, key = store
    nowhere = service(account, key).get_container_client("none")
    with pytest.raises(ResourceNotFoundError, match="ContainerNotFound"):
        nowhere.upload_blob("a", b"1")
    with pytest.raises(ResourceNotFoundError, match="ContainerNotFound"):
        nowhere.download_blob("a")
    assert not nowhere.exists()
