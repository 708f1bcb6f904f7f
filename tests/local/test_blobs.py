"""Blob storage through azure-storage-blob, and what it must refuse."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import psutil
import pytest
import requests
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

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


def test_a_range_is_a_part(container):
    blob = container.upload_blob("x", b"0123456789")
    assert blob.download_blob(offset=2, length=3).readall() == b"234"
    assert blob.download_blob(offset=8, length=100).readall() == b"89"


def test_names_of_any_letters(container):
    name = "a b/ä+%#/x=1&y.txt"
    container.upload_blob(name, b"1")
    assert [blob.name for blob in container.list_blobs(name_starts_with="a b/")] == [name]
    assert container.download_blob(name).readall() == b"1"


def test_listing_by_prefix_folder_and_page(container):
    for name in ("a/1", "a/2", "a/b/3", "c"):
        container.upload_blob(name, b"")
    assert [b.name for b in container.list_blobs("a/")] == ["a/1", "a/2", "a/b/3"]
    assert sorted(b.name for b in container.walk_blobs("a/")) == ["a/1", "a/2", "a/b/"]
    pages = container.list_blobs(results_per_page=3).by_page()
    assert [[blob.name for blob in page] for page in pages] == [["a/1", "a/2", "a/b/3"], ["c"]]


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


def test_an_expired_signature_is_refused(container, store, service):
    container.upload_blob("x", b"1")
    account, name, _ = store
    expired = signature(store, expiry=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(ClientAuthenticationError):
        service(account, expired).get_container_client(name).download_blob("x")


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
    assert not list(address.home.rglob("*evil*"))


def test_memory_does_not_grow_with_what_passes(container, address):
    """Uploading and reading 256 MiB costs the daemon less than 64 MiB."""
    daemon, size = psutil.Process(address.pid), 256 * MIB
    container.upload_blob("warm", b"1")
    before = daemon.memory_info().rss
    blob = container.upload_blob("large", (bytes(MIB) for _ in range(256)), length=size)
    read = sum(len(chunk) for chunk in blob.download_blob().chunks())
    assert read == size
    assert daemon.memory_info().rss - before < 64 * MIB
    blob.delete_blob()
