"""File shares: the same files as blob storage, in directories that are there when empty.

A file has its size from the beginning and is written range by range in its place, as on Azure: who
reads it meanwhile reads what is there so far. What a request for a file shares with one for a
blob (reading, deleting, metadata) is answered as for blobs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree as ET

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aml_magics.local import blobs, containers, datalake, incoming, signatures, uris
from aml_magics.local.signatures import BlobError
from aml_magics.local.wire import ArmError, Call

LARGEST = 4 << 40  # bytes of a file


def asked(call: Call) -> str:
    """What a request is that only file shares understand; "" for any other."""
    query, headers = call.query, call.request.headers
    if kind := query.get("restype", ""):
        what = f"{kind} {query.get('comp', '')}".strip()
        return what if kind in ("share", "directory") else ""
    if query.get("comp") == "range":
        return "range"
    return "file" if headers.get("x-ms-type", "").lower() == "file" else ""


async def path(call: Call) -> Response:
    """Any request about a file, a directory or a blob."""
    what = asked(call)
    return await (_request(call, what) if what else datalake.path(call))


async def share(call: Call) -> Response:
    """Any request about a share, a file system or a container."""
    if what := asked(call):
        return await _request(call, what)
    return await run_in_threadpool(datalake.filesystem, call)


async def _request(call: Call, what: str) -> Response:
    account, root, name = (call.path.get(key) or "" for key in ("account", "container", "name"))
    handler = _REQUESTS.get((call.request.method, what))
    is_root = not name.strip("/")
    is_deleted = is_root and call.request.method == "DELETE"
    if handler is None or is_deleted or (is_root and what in ("file", "range")):
        raise ArmError(501, "NotImplemented", f"File share operation {call.request.method} {what}.")
    if "sig" in call.query:
        message = "Shared access signatures of file shares: use the key or a token."
        raise ArmError(501, "NotImplemented", message)
    signatures.authorize(call, account, root, name)
    folder = uris.container(call.local, account, root)
    if not folder.is_dir() and what != "share":
        raise BlobError(404, "ShareNotFound", "The specified share does not exist.")
    target, note = uris.below(folder, name), blobs.note_id(account, root, name.strip("/"))
    answer: Response = await handler(call, target, note)
    answer.headers.update({"x-ms-version": signatures.SAS_VERSION})
    return answer


def _in_thread(work: Callable[[Call, Path, str], Response]) -> Any:
    async def handler(call: Call, target: Path, note: str) -> Response:
        return await run_in_threadpool(work, call, target, note)

    return handler


# Shares and directories


def _create_share(call: Call, target: Path, note: str) -> Response:
    try:
        target.mkdir(parents=True)
    except FileExistsError as exc:
        raise BlobError(409, "ShareAlreadyExists", "The share already exists.") from exc
    return Response(None, 201, datalake.directory_headers(call, target, note))


def _create_directory(call: Call, target: Path, note: str) -> Response:
    try:
        target.mkdir()
    except FileExistsError as exc:
        message = "The specified resource already exists."
        raise BlobError(409, "ResourceAlreadyExists", message) from exc
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise _no_parent() from exc
    call.local.store.note(note, blobs.DIRECTORY, datalake.metadata(call))
    return Response(None, 201, datalake.directory_headers(call, target, note))


def _show(call: Call, target: Path, note: str) -> Response:
    return Response(headers=datalake.directory_headers(call, _existing(target), note))


def _tag(call: Call, target: Path, note: str) -> Response:
    call.local.store.note(note, blobs.DIRECTORY, datalake.metadata(call))
    return _show(call, target, note)


def _delete_directory(call: Call, target: Path, note: str) -> Response:
    try:
        _existing(target).rmdir()
    except OSError as exc:
        message = "The specified directory is not empty."
        raise BlobError(409, "DirectoryNotEmpty", message) from exc
    call.local.store.forget(note, blobs.DIRECTORY)
    return Response(status_code=202)


def _list(call: Call, target: Path, note: str) -> Response:
    """A page of what is directly in a directory, in the order of names."""
    listing, root = containers.asked(call), ET.Element("EnumerationResults")
    entries = sorted(_existing(target).iterdir())
    chosen = [e for e in entries if e.name.startswith(listing.prefix) and e.name >= listing.marker]
    shown = ET.SubElement(root, "Entries")
    for entry in chosen[: listing.limit]:
        _show_entry(shown, entry)
    rest = chosen[listing.limit].name if len(chosen) > listing.limit else ""
    containers.add(root, "NextMarker", rest)
    return Response(b"\xef\xbb\xbf" + ET.tostring(root, "utf-8"), media_type="application/xml")


def _show_entry(shown: ET.Element, entry: Path) -> None:
    element = ET.SubElement(shown, "Directory" if entry.is_dir() else "File")
    containers.add(element, "Name", entry.name)
    properties = ET.SubElement(element, "Properties")
    if not entry.is_dir():
        containers.add(properties, "Content-Length", str(entry.stat().st_size))


def _existing(target: Path) -> Path:
    if not target.is_dir():
        raise BlobError(404, "ResourceNotFound", "The specified resource does not exist.")
    return target


def _no_parent() -> BlobError:
    return BlobError(404, "ParentNotFound", "The specified parent path does not exist.")


# Files


def _create_file(call: Call, target: Path, note: str) -> Response:
    """Make a file of zeros, in place of one that is there."""
    size = _number(call.request.headers.get("x-ms-content-length", ""))
    if call.request.headers.get("content-length", "0") != "0":
        raise ArmError(501, "NotImplemented", "Files that are created with their content.")
    if not target.parent.is_dir():
        raise _no_parent()

    def place(made: Path) -> Response:
        about = made.stat()
        os.truncate(made, size)
        os.utime(made, ns=(about.st_mtime_ns,) * 2)  # which no other file has
        return blobs.place(call, made, target, note)

    return incoming.join(call.local, [], place)


async def _write(call: Call, target: Path, note: str) -> Response:
    if call.request.headers.get("x-ms-write", "").lower() != "update":
        raise ArmError(501, "NotImplemented", "Ranges of a file that are cleared or copied.")
    headers = call.request.headers
    first, _, last = headers.get("x-ms-range", headers.get("range", "")).partition("-")
    start, stop = _number(first.removeprefix("bytes=")), _number(last) + 1

    def place(piece: Path) -> Response:
        with call.local.incoming.placing(target):
            change = partial(_copy, piece, start, stop)
            return blobs.rewrite(call, target, note, change)

    answer = await blobs.receive(call, place)
    del answer.headers[blobs.MD5]  # of the whole file: clients compare that of the range
    if told := headers.get(blobs.MD5):
        answer.headers[blobs.MD5] = told
    return answer


def _copy(piece: Path, start: int, stop: int, file: IO[bytes]) -> None:
    """Write a piece over a part of a file: from `start` up to but not including `stop`.

    Raises: BlobError: the piece is not as long as that, or that is not inside the file.
    """
    if piece.stat().st_size != stop - start:
        raise BlobError(400, "InvalidInput", "The content is not as long as its range.")
    if stop > os.fstat(file.fileno()).st_size:
        raise BlobError(416, "InvalidRange", "The range is not in the file.")
    file.seek(start)
    with piece.open("rb") as source:
        shutil.copyfileobj(source, file, blobs.CHUNK)


def _number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not 0 <= number <= LARGEST:
        raise BlobError(400, "InvalidHeaderValue", f"No size or place in a file: {text[:80]!r}.")
    return number


_REQUESTS: dict[tuple[str, str], Any] = {
    ("PUT", "share"): _in_thread(_create_share),
    ("GET", "share"): _in_thread(_show),
    ("PUT", "directory"): _in_thread(_create_directory),
    ("GET", "directory"): _in_thread(_show),
    ("HEAD", "directory"): _in_thread(_show),
    ("PUT", "directory metadata"): _in_thread(_tag),
    ("GET", "directory list"): _in_thread(_list),
    ("DELETE", "directory"): _in_thread(_delete_directory),
    ("PUT", "file"): _in_thread(_create_file),
    ("PUT", "range"): _write,
}
