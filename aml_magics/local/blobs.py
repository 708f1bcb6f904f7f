"""Blob storage: one file for one blob, below home/storage/ACCOUNT/CONTAINER.

A blob is written under a temporary name, flushed and renamed, so that a reader or a crash sees the
whole blob or none. What a file cannot hold (metadata, MD5, type) is a note in the store.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import uuid4
from xml.etree import ElementTree as ET

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from aml_magics.local import signatures, uris
from aml_magics.local.signatures import SAS_VERSION, BlobError
from aml_magics.local.wire import ArmError, Call, Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local
    from aml_magics.local.doors import Door

CHUNK = 1 << 20
LIST_PAGE = 5000


def account_id(ws: Workspace) -> str:
    return f"{ws.group_id}/providers/Microsoft.Storage/storageAccounts/{ws.account}"


def new_container(local: Local, ws: Workspace, door: Door) -> tuple[str, str, str]:
    """A container for one upload: its name, its URI for good, and a URI to write to it now."""
    name = str(uuid4())
    uris.container(local, ws.account, name).mkdir(parents=True)
    lasting = f"https://{ws.account}.blob.core.windows.net:443/{name}"
    return (
        name,
        lasting,
        f"{door.blob(ws.account)}/{name}?{signatures.sas(local, ws.account, name, allow='rcwl')}",
    )


# Requests


async def blob(call: Call) -> Response:
    """Any request about one blob: properties, content, upload in one go or in blocks."""
    account, container, name = (call.path[key] for key in ("account", "container", "name"))
    name = unquote(name)
    signatures.authorize(call, account, container, name)
    folder = uris.container(call.local, account, container)
    path = uris.below(folder, name)
    if path == folder:
        raise BlobError(400, "InvalidUri", "The blob has no name.")
    verb, comp = call.request.method, call.query.get("comp", "")
    if call.query.get("restype") == "container":
        return await run_in_threadpool(_container, call, folder)
    handler = _BLOB.get((verb, comp))
    if handler is None:
        raise ArmError(501, "NotImplemented", f"Blob operation {verb} comp={comp!r}.")
    response: Response = await handler(call, path, _note_id(account, container, name))
    response.headers.update({"x-ms-version": SAS_VERSION, "x-ms-request-id": str(uuid4())})
    return response


async def container_request(call: Call) -> Response:
    """Create, look at or list a container."""
    account, container = call.path["account"], call.path["container"]
    signatures.authorize(call, account, container, "")
    return await run_in_threadpool(_container, call, uris.container(call.local, account, container))


def _container(call: Call, folder: Path) -> Response:
    if call.request.method == "PUT":
        if folder.exists():
            raise BlobError(409, "ContainerAlreadyExists", "The container already exists.")
        folder.mkdir(parents=True)
        return Response(status_code=201)
    if call.query.get("comp") == "list":
        return _list(call, folder)
    if not folder.exists():
        raise BlobError(404, "ContainerNotFound", "The container does not exist.")
    return Response(headers={"ETag": '"0"', "Last-Modified": formatdate(0, usegmt=True)})


def _note_id(account: str, container: str, name: str) -> str:
    return f"blob:{account}/{container}/{name}"


async def _head(call: Call, path: Path, note: str) -> Response:
    return Response(headers=_properties(call.local, path, note))


async def _get(call: Call, path: Path, note: str) -> Response:
    """The blob or a range of it; what is appended meanwhile belongs to the next request."""
    headers = _properties(call.local, path, note)
    size = int(headers["Content-Length"])
    wanted = call.request.headers.get("x-ms-range") or call.request.headers.get("range")
    if not wanted:
        return StreamingResponse(_read(path, 0, size), headers=headers)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first or 0)
    stop = min(int(last) + 1 if last else size, size)
    if start >= size:
        error = BlobError(416, "InvalidRange", "The range is not in the blob.").response()
        error.headers["Content-Range"] = f"bytes */{size}"
        return error
    headers["Content-Length"] = str(stop - start)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return StreamingResponse(_read(path, start, stop), 206, headers)


def _read(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
            start += len(chunk)
            yield chunk


async def _put(call: Call, path: Path, note: str) -> Response:
    if path.exists() and call.request.headers.get("if-none-match") == "*":
        raise BlobError(409, "BlobAlreadyExists", "The blob already exists.")
    await receive(call.request.stream(), path)
    return await run_in_threadpool(_remember, call, path, note)


async def _put_metadata(call: Call, path: Path, note: str) -> Response:
    known = call.local.store.noted(note, "blob") or {}
    headers = _properties(call.local, path, note)
    call.local.store.note(note, "blob", {**known, "metadata": _metadata(call)})
    return Response(headers={key: headers[key] for key in ("ETag", "Last-Modified")})


async def _delete(call: Call, path: Path, note: str) -> Response:
    _properties(call.local, path, note)
    path.unlink()
    call.local.store.forget(note, "blob")
    return Response(status_code=202)


async def _put_block(call: Call, path: Path, note: str) -> Response:
    block = _blocks(call.local, note) / sha256(call.query["blockid"].encode()).hexdigest()
    await receive(call.request.stream(), block)
    return Response(status_code=201)


async def _put_block_list(call: Call, path: Path, note: str) -> Response:
    body = await call.request.body()
    names = [element.text or "" for element in ET.fromstring(body)]  # noqa: S314
    blocks = _blocks(call.local, note)
    files = [blocks / sha256(name.encode()).hexdigest() for name in names]
    if not all(file.exists() for file in files):
        raise BlobError(400, "InvalidBlockList", "A block of the list was not uploaded.")
    await receive(_chunks(files), path)
    await run_in_threadpool(shutil.rmtree, blocks, ignore_errors=True)
    return await run_in_threadpool(_remember, call, path, note)


async def _chunks(files: list[Path]) -> AsyncIterator[bytes]:
    for file in files:
        for chunk in _read(file, 0, file.stat().st_size):
            yield chunk


def _blocks(local: Local, note: str) -> Path:
    return local.home / "blocks" / sha256(note.encode()).hexdigest()


async def receive(chunks: AsyncIterator[bytes], path: Path) -> None:
    """Write a stream to a file: whole, or not at all; memory stays at one chunk."""
    temporary = path.parent / f".{uuid4().hex}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            async for chunk in chunks:
                file.write(chunk)
            file.flush()
            await run_in_threadpool(os.fsync, file.fileno())
        temporary.replace(path)
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as exc:
        raise BlobError(409, "BlobNameConflict", "A blob is in the way of this name.") from exc
    finally:
        temporary.unlink(missing_ok=True)


def _remember(call: Call, path: Path, note: str) -> Response:
    headers = call.request.headers
    kept = {
        "metadata": _metadata(call),
        "md5": headers.get("x-ms-blob-content-md5") or headers.get("content-md5"),
        "type": headers.get("x-ms-blob-content-type"),
    }
    call.local.store.note(note, "blob", kept)
    shown = _properties(call.local, path, note)
    return Response(None, 201, {key: shown[key] for key in ("ETag", "Last-Modified")})


def _metadata(call: Call) -> dict[str, str]:
    prefix = "x-ms-meta-"
    headers = call.request.headers.items()
    return {key[len(prefix) :]: value for key, value in headers if key.startswith(prefix)}


def _properties(local: Local, path: Path, note: str) -> dict[str, str]:
    """The headers that describe a blob.

    Raises: BlobError 404: there is none.
    """
    if not path.is_file():
        raise BlobError(404, "BlobNotFound", "The specified blob does not exist.")
    kept, about = local.store.noted(note, "blob") or {}, path.stat()
    headers = {
        "Content-Length": str(about.st_size),
        "Content-Type": kept.get("type") or "application/octet-stream",
        "ETag": f'"0x{about.st_mtime_ns:X}"',
        "Last-Modified": formatdate(about.st_mtime, usegmt=True),
        "Accept-Ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-creation-time": formatdate(about.st_ctime, usegmt=True),
    }
    if kept.get("md5"):
        headers["x-ms-blob-content-md5"] = kept["md5"]
    metadata = kept.get("metadata") or {}
    return {**headers, **{f"x-ms-meta-{key}": value for key, value in metadata.items()}}


_BLOB: dict[tuple[str, str], Any] = {
    ("HEAD", ""): _head,
    ("GET", ""): _get,
    ("PUT", ""): _put,
    ("DELETE", ""): _delete,
    ("PUT", "metadata"): _put_metadata,
    ("PUT", "block"): _put_block,
    ("PUT", "blocklist"): _put_block_list,
}


# Listing


def _list(call: Call, folder: Path) -> Response:
    query = call.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = int(query.get("maxresults", LIST_PAGE))
    marker, account = query.get("marker", ""), call.path["account"]
    names = [name for name in sorted(_names(folder, prefix)) if name >= marker]
    root = ET.Element("EnumerationResults", ContainerName=folder.name)
    ET.SubElement(root, "Prefix").text = prefix
    items, rest = ET.SubElement(root, "Blobs"), ""
    seen: set[str] = set()
    for name in names:
        if len(seen) == limit:
            rest = name
            break
        head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        shown = prefix + head + cut if cut else name
        if shown not in seen:
            seen.add(shown)
            _item(items, call.local, folder / name, _note_id(account, folder.name, name), shown)
    ET.SubElement(root, "NextMarker").text = rest
    return Response(b"\xef\xbb\xbf" + ET.tostring(root, "utf-8"), media_type="application/xml")


def _names(folder: Path, prefix: str) -> Iterator[str]:
    """Names of the blobs that begin with `prefix`, walking only the folder it points into."""
    start = uris.below(folder, prefix.rpartition("/")[0])
    for parent, _, files in os.walk(start):
        for file in files:
            name = (Path(parent) / file).relative_to(folder).as_posix()
            if name.startswith(prefix) and not file.endswith(".partial"):
                yield name


def _item(items: ET.Element, local: Local, path: Path, note: str, shown: str) -> None:
    if shown.endswith("/"):
        ET.SubElement(ET.SubElement(items, "BlobPrefix"), "Name").text = shown
        return
    item, headers = ET.SubElement(items, "Blob"), _properties(local, path, note)
    ET.SubElement(item, "Name").text = shown
    properties = ET.SubElement(item, "Properties")
    for header, element in _LISTED.items():
        ET.SubElement(properties, element).text = headers.get(header, "")
    metadata = ET.SubElement(item, "Metadata")
    for key, value in headers.items():
        if key.startswith("x-ms-meta-"):
            ET.SubElement(metadata, key.removeprefix("x-ms-meta-")).text = value


_LISTED = {
    "Last-Modified": "Last-Modified",
    "ETag": "Etag",
    "Content-Length": "Content-Length",
    "Content-Type": "Content-Type",
    "x-ms-blob-content-md5": "Content-MD5",
    "x-ms-blob-type": "BlobType",
}


def url(door: Door, account: str, container: str, name: str) -> str:
    return f"{door.blob(account)}/{container}/{quote(name)}"
