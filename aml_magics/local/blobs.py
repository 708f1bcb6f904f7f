"""Blob storage: one file for one blob, below home/storage/ACCOUNT/CONTAINER.

What a file cannot hold (metadata, MD5, type) is a note in the store, under the time of that very
file: whoever replaces a blob writes the note first, so a crash leaves the old blob or the new one.
"""

from __future__ import annotations

import binascii
import os
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from email.utils import formatdate
from hashlib import md5, sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4
from xml.etree import ElementTree as ET

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from aml_magics.local import incoming, signatures, uris
from aml_magics.local.signatures import SAS_VERSION, BlobError
from aml_magics.local.wire import ArmError, Call, Workspace, read_body

if TYPE_CHECKING:
    from aml_magics.local.app import Local
    from aml_magics.local.doors import Door

T = TypeVar("T")
CHUNK = 1 << 20
METADATA = "x-ms-meta-"
# Shown by the browser, a page that a job has written would run as one of the workspace's own.
NO_PAGE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
DIRECTORY = "directory"  # the key of the note that says a client made one


def account_id(ws: Workspace) -> str:
    return f"{ws.group_id}/providers/Microsoft.Storage/storageAccounts/{ws.account}"


def url(door: Door, account: str, container: str, name: str) -> str:
    return f"{door.blob(account)}/{container}/{quote(name)}"


# Requests


async def blob(call: Call) -> Response:
    """Any request about one blob: properties, content, upload in one go or in blocks."""
    account, container, name = (call.path[key] for key in ("account", "container", "name"))
    signatures.authorize(call, account, container, name)
    folder = uris.container(call.local, account, container)
    path = uris.below(folder, name)
    if path == folder:
        raise BlobError(400, "InvalidUri", "The blob has no name.")
    if not folder.is_dir():
        raise BlobError(404, "ContainerNotFound", "The specified container does not exist.")
    verb, comp = call.request.method, call.query.get("comp", "")
    handler = _BLOB.get((verb, comp))
    if handler is None:
        raise ArmError(501, "NotImplemented", f"Blob operation {verb} comp={comp!r}.")
    response: Response = await handler(call, path, note_id(account, container, name))
    response.headers.update({"x-ms-version": SAS_VERSION, "x-ms-request-id": str(uuid4())})
    return response


def note_id(account: str, container: str, name: str) -> str:
    return f"blob:{account}/{container}/{name}"


# Reading


async def _head(call: Call, path: Path, note: str) -> Response:
    return await run_in_threadpool(_shown, call, path, note)


def _shown(call: Call, path: Path, note: str) -> Response:
    with _opened(path) as file:
        headers = properties(call.local, os.fstat(file.fileno()), note)
        return _unchanged(call, headers) or Response(headers=_with_md5(headers, file))


async def _get(call: Call, path: Path, note: str) -> Response:
    return await run_in_threadpool(_content, call, path, note)


def _content(call: Call, path: Path, note: str) -> Response:
    """The blob or a range of it: of the file as it is now, whatever takes its place meanwhile."""
    file = _opened(path)
    headers = {**properties(call.local, os.fstat(file.fileno()), note), **NO_PAGE}
    size = int(headers["Content-Length"])
    if answer := _unchanged(call, headers):
        return answer
    wanted = call.request.headers.get("x-ms-range") or call.request.headers.get("range")
    if not (bounds := _range(wanted or "", size)):
        return StreamingResponse(_read(file, 0, size), headers=_with_md5(headers, file))
    start, stop = bounds
    if start >= size:
        error = BlobError(416, "InvalidRange", "The range is not in the blob.").response()
        error.headers["Content-Range"] = f"bytes */{size}"
        return error
    headers["Content-Length"] = str(stop - start)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return StreamingResponse(_read(file, start, stop), 206, headers)


def _range(wanted: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None for what is no range, which HTTP passes over."""
    first, dash, last = wanted.removeprefix("bytes=").partition("-")
    if not dash or not _is_position(first) or (last and not _is_position(last)):
        return None
    start, stop = int(first), min(int(last) + 1, size) if last else size
    return (start, stop) if start < stop or start >= size else None


def _is_position(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def _read(file: IO[bytes], start: int, stop: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
            start += len(chunk)
            yield chunk


def _unchanged(call: Call, headers: dict[str, str]) -> Response | None:
    """304 when the client has this version; for one that wants another it is an error.

    Raises: BlobError 412.
    """
    asked, etag = call.request.headers, headers["ETag"]
    if asked.get("if-match", "*") not in ("*", etag):
        raise _not_met()
    has_it = asked.get("if-none-match") in ("*", etag)
    return Response(status_code=304, headers={"ETag": etag}) if has_it else None


# Writing


async def _put(call: Call, path: Path, note: str) -> Response:
    kind = call.request.headers.get("x-ms-blob-type", "BlockBlob")
    if kind != "BlockBlob" or "x-ms-copy-source" in call.request.headers:
        raise ArmError(501, "NotImplemented", f"Blobs of type {kind}, or copied from a URL.")
    return await receive(call, lambda temporary: place(call, temporary, path, note))


async def _put_block(call: Call, path: Path, note: str) -> Response:
    if not call.query.get("blockid"):
        raise BlobError(400, "MissingRequiredQueryParameter", "The block has no blockid.")
    block = _blocks(call.local, note) / _block_name(call.query["blockid"])
    await receive(call, lambda temporary: incoming.move(temporary, block))
    return Response(status_code=201)


async def _put_block_list(call: Call, path: Path, note: str) -> Response:
    body = await read_body(call.request)
    return await run_in_threadpool(_commit_blocks, call, path, note, body)


def _commit_blocks(call: Call, path: Path, note: str, body: bytes) -> Response:
    try:
        names = [element.text or "" for element in ET.fromstring(body)]  # noqa: S314
    except (ET.ParseError, ValueError, LookupError) as exc:  # of an unknown encoding
        raise BlobError(400, "InvalidXmlDocument", "The block list is not XML.") from exc
    blocks = _blocks(call.local, note)
    files = [blocks / _block_name(name) for name in names]
    if not all(file.exists() for file in {*files}):
        raise BlobError(400, "InvalidBlockList", "A block of the list was not uploaded.")
    return incoming.join(call.local, files, lambda made: place(call, made, path, note))


async def _put_metadata(call: Call, path: Path, note: str) -> Response:
    return await run_in_threadpool(_change_metadata, call, path, note)


def _change_metadata(call: Call, path: Path, note: str) -> Response:
    store = call.local.store
    with call.local.incoming.placing(path):
        about = _about(path)
        _unchanged(call, properties(call.local, about, note))
        known = store.noted(note, _key(about)) or {}
        store.note(note, _key(about), {**known, "metadata": _metadata(call)})
    return _written(call, path, note, 200)


async def _delete(call: Call, path: Path, note: str) -> Response:
    return await run_in_threadpool(remove, call, path, note)


def remove(call: Call, path: Path, note: str) -> Response:
    """Remove a blob, and the folders that were there for it alone."""
    container = uris.container(call.local, call.path["account"], call.path["container"])
    with call.local.incoming.placing(path):
        about = _about(path)
        _unchanged(call, properties(call.local, about, note))
        path.unlink()
        call.local.store.forget(note, _key(about))
        while (path := path.parent) != container:
            if not _is_removed(call.local, path, container):
                break
    return Response(status_code=202)


def _is_removed(local: Local, folder: Path, container: Path) -> bool:
    """Whether a folder was there for blobs that are gone: one that a client made stays."""
    place = (container.parent.name, container.name, folder.relative_to(container).as_posix())
    if local.store.noted(note_id(*place), DIRECTORY) is not None:
        return False
    try:
        folder.rmdir()
    except OSError:  # not empty
        return False
    return True


async def receive(call: Call, place: Callable[[Path], T]) -> T:
    try:
        told = b64decode(call.request.headers.get(MD5, "")).hex()
        return await incoming.receive(call.local, call.request.stream(), place, told)
    except (binascii.Error, incoming.WrongContent) as exc:
        raise BlobError(400, "Md5Mismatch", "The content does not fit its Content-MD5.") from exc


def place(call: Call, temporary: Path, path: Path, note: str) -> Response:
    """Make a finished file the blob, with all that is to be remembered of it, in one step."""
    store, kept, key = call.local.store, _kept(call), _key(temporary.stat())
    with call.local.incoming.placing(path):
        old = path.stat() if path.is_file() else None
        _check_conditions(call, old)
        if kept:
            store.note(note, key, kept)
        try:
            incoming.move(temporary, path)
        except ArmError:
            store.forget(note, key)
            raise
        if old and store.noted(note, _key(old)) is not None:
            store.forget(note, _key(old))
    shutil.rmtree(_blocks(call.local, note), ignore_errors=True)
    return _written(call, path, note, 201)


def rewrite(call: Call, path: Path, note: str, change: Callable[[IO[bytes]], None]) -> Response:
    """Change some of the content of a file in its place; what is kept of it goes along.

    To be called under the lock of the path.
    """
    store = call.local.store
    with _opened(path, "r+b") as file:
        kept = store.noted(note, old := _key(os.fstat(file.fileno())))
        change(file)
        file.flush()
        incoming.settle(file.fileno())
        if kept:
            store.note(note, _key(os.fstat(file.fileno())), {**kept, "md5": None})
            store.forget(note, old)
    return _written(call, path, note, 201)


def _check_conditions(call: Call, old: os.stat_result | None) -> None:
    asked, etag = call.request.headers, _etag(old) if old else None
    if etag and asked.get("if-none-match") == "*":
        raise BlobError(409, "BlobAlreadyExists", "The blob already exists.")
    is_other = "if-match" in asked and (etag is None or asked["if-match"] not in ("*", etag))
    if is_other or (etag and asked.get("if-none-match") == etag):
        raise _not_met()


def _kept(call: Call) -> dict[str, Any]:
    headers = call.request.headers
    facts = {
        "metadata": _metadata(call),
        "md5": headers.get("x-ms-blob-content-md5") or headers.get("content-md5"),
        "type": headers.get("x-ms-blob-content-type"),
    }
    if facts["type"] == DEFAULT_TYPE:
        facts["type"] = None
    return facts if any(facts.values()) else {}


def _metadata(call: Call) -> dict[str, str]:
    given = {
        key.removeprefix(METADATA): value
        for key, value in call.request.headers.items()
        if key.startswith(METADATA)
    }
    for name in given:
        if not (name.isascii() and name.isidentifier()):
            raise BlobError(400, "InvalidMetadata", f"The metadata name {name!r} is not valid.")
    return given


def _written(call: Call, path: Path, note: str, status: int) -> Response:
    with _opened(path) as file:
        shown = _with_md5(properties(call.local, os.fstat(file.fileno()), note), file)
    told = {key: shown[key] for key in ("ETag", "Last-Modified", MD5) if key in shown}
    return Response(None, status, told)


def _blocks(local: Local, note: str) -> Path:
    return local.incoming.blocks / sha256(note.encode()).hexdigest()


def _block_name(block_id: str) -> str:
    return sha256(block_id.encode()).hexdigest()


# What is known of a blob

DEFAULT_TYPE = "application/octet-stream"
MD5 = "content-md5"
HASHED_BYTES = 4 << 20


def properties(local: Local, about: os.stat_result, note: str) -> dict[str, str]:
    """The headers that describe a blob, which is a file of which this is known."""
    kept = local.store.noted(note, _key(about)) or {}
    headers = {
        "Content-Length": str(about.st_size),
        "Content-Type": kept.get("type") or DEFAULT_TYPE,
        "ETag": _etag(about),
        "Last-Modified": formatdate(about.st_mtime, usegmt=True),
        "Accept-Ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-creation-time": formatdate(about.st_ctime, usegmt=True),
    }
    if kept.get("md5"):
        headers[f"x-ms-blob-{MD5}"] = kept["md5"]
    metadata = kept.get("metadata") or {}
    return {**headers, **{f"{METADATA}{key}": value for key, value in metadata.items()}}


def _with_md5(headers: dict[str, str], file: IO[bytes]) -> dict[str, str]:
    """The headers of a whole blob: they tell its MD5 by another name than those of a part.

    That of a small one is worked out each time: to keep it would be a write to disk for each blob.
    """
    kept = headers.pop(f"x-ms-blob-{MD5}", None)
    if kept is None and int(headers["Content-Length"]) <= HASHED_BYTES:
        kept = b64encode(md5(file.read(), usedforsecurity=False).digest()).decode()
    return {**headers, **({MD5: kept} if kept else {})}


def _opened(path: Path, mode: Literal["rb", "r+b"] = "rb") -> IO[bytes]:
    """Raises: BlobError 404: there is no such blob."""
    try:
        return path.open(mode)
    except OSError as exc:
        raise _no_blob() from exc


def _about(path: Path) -> os.stat_result:
    """Raises: BlobError 404: there is no such blob."""
    if not path.is_file():
        raise _no_blob()
    return path.stat()


def _etag(about: os.stat_result) -> str:
    return f'"0x{about.st_mtime_ns:X}"'


def _key(about: os.stat_result) -> str:
    """The key of the note about the blob that is in this very file."""
    return f"blob {about.st_mtime_ns:X}"


def _no_blob() -> BlobError:
    return BlobError(404, "BlobNotFound", "The specified blob does not exist.")


def _not_met() -> BlobError:
    message = "The condition specified using HTTP conditional header(s) is not met."
    return BlobError(412, "ConditionNotMet", message)


_BLOB: dict[tuple[str, str], Any] = {
    ("HEAD", ""): _head,
    ("GET", ""): _get,
    ("PUT", ""): _put,
    ("DELETE", ""): _delete,
    ("PUT", "metadata"): _put_metadata,
    ("PUT", "block"): _put_block,
    ("PUT", "blocklist"): _put_block_list,
}
