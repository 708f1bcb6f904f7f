"""Data Lake Storage Gen2: the same files as blob storage, with directories of their own.

What is appended waits beside the file until it is flushed, so that a reader or a crash sees the
whole file or none. A directory that a client made is one that it can ask for and tag; one that
merely holds blobs is not. A client of either service may use the other's requests.
"""

from __future__ import annotations

import binascii
import shutil
from base64 import b64decode
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from aml_magics.local import blobs, containers, incoming, signatures, uris
from aml_magics.local.signatures import BlobError
from aml_magics.local.wire import ArmError, Call

if TYPE_CHECKING:
    from aml_magics.local.app import Local


async def path(call: Call) -> Response:
    """Any request about a file, a directory or a blob."""
    account, container, name = (call.path[key] for key in ("account", "container", "name"))
    target = uris.below(uris.container(call.local, account, container), name)
    note = blobs.note_id(account, container, name.strip("/"))
    what = _what(call, target, note)
    if not what:
        return await blobs.blob(call)
    signatures.authorize(call, account, container, name)
    handler = _PATHS.get((call.request.method, what))
    if handler is None or not name.strip("/"):
        raise ArmError(501, "NotImplemented", f"Data Lake operation {call.request.method} {what}.")
    if not uris.container(call.local, account, container).is_dir():
        raise BlobError(404, "FilesystemNotFound", "The specified filesystem does not exist.")
    answer: Response = await handler(call, target, note)
    answer.headers["x-ms-version"] = signatures.SAS_VERSION
    return answer


def _what(call: Call, target: Path, note: str) -> str:
    """What a request is that blob storage would not understand; "" for one of its own."""
    query, verb = call.query, call.request.method
    if "x-ms-rename-source" in call.request.headers:
        return "rename"
    if asked := query.get("resource") or (query.get("action") if verb == "PATCH" else ""):
        return asked
    is_directory = target.is_dir() and call.local.store.noted(note, blobs.DIRECTORY) is not None
    if is_directory or (verb == "DELETE" and "recursive" in query and target.is_dir()):
        return query.get("comp") or blobs.DIRECTORY
    return "unnamed" if verb == "PATCH" else ""


def filesystem(call: Call) -> Response:
    """Create or look at a file system, list what is in it; or a request about a container."""
    if call.request.method != "GET" or call.query.get("resource") != "filesystem":
        return containers.request(call)
    account, container = call.path["account"], call.path["container"]
    signatures.authorize(call, account, container, "")
    return _list(call, uris.container(call.local, account, container))


# Files


async def _create_file(call: Call, target: Path, note: str) -> Response:
    await run_in_threadpool(shutil.rmtree, _pieces(call.local, note), True)
    _note_parents(call, note)
    return await run_in_threadpool(
        incoming.join, call.local, [], lambda made: blobs.place(call, made, target, note)
    )


def _note_parents(call: Call, note: str) -> None:
    """The folders that a file is put into are directories that can be asked for."""
    container = blobs.note_id(call.path["account"], call.path["container"], "")
    while (note := note.rpartition("/")[0]) and note.startswith(container):
        if call.local.store.noted(note, blobs.DIRECTORY) is None:
            call.local.store.note(note, blobs.DIRECTORY, {})


async def _append(call: Call, target: Path, note: str) -> Response:
    """Keep a piece of a file until it is flushed."""
    _check_file(target)
    piece = _pieces(call.local, note) / f"{_position(call):020}"
    stream = call.request.stream()
    await incoming.receive(call.local, stream, lambda made: incoming.move(made, piece))
    return Response(status_code=202)


async def _flush(call: Call, target: Path, note: str) -> Response:
    return await run_in_threadpool(_flushed, call, target, note)


def _flushed(call: Call, target: Path, note: str) -> Response:
    """Make what was appended the file, after what it held unless that began anew.

    Raises: BlobError 400: the pieces do not add up to the length that was said.
    """
    _check_file(target)
    waiting = _pieces(call.local, note)
    pieces = sorted(waiting.iterdir()) if waiting.is_dir() else []
    if not pieces or int(pieces[0].name) > 0:
        pieces = [target, *pieces]
    if sum(piece.stat().st_size for piece in pieces) != _position(call):
        raise BlobError(400, "InvalidFlushPosition", "The file is not as long as was said.")
    incoming.join(call.local, pieces, lambda made: blobs.place(call, made, target, note))
    shutil.rmtree(waiting, ignore_errors=True)
    about = target.stat()
    shown = blobs.properties(call.local, about, note)
    return Response(None, 200, {key: shown[key] for key in ("ETag", "Last-Modified")})


def _check_file(target: Path) -> None:
    if not target.is_file():
        raise BlobError(404, "PathNotFound", "The specified path does not exist.")


def _pieces(local: Local, note: str) -> Path:
    return local.incoming.blocks / sha256(f"appended to {note}".encode()).hexdigest()


def _position(call: Call) -> int:
    text = call.query.get("position", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise BlobError(400, "InvalidQueryParameterValue", "position is not a whole number.")
    return int(text)


# Directories


async def _create_directory(call: Call, target: Path, note: str) -> Response:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:
        raise BlobError(409, "PathConflict", "A file is in the way of this directory.") from exc
    call.local.store.note(note, blobs.DIRECTORY, metadata(call))
    return Response(None, 201, directory_headers(call, target, note))


async def _show_directory(call: Call, target: Path, note: str) -> Response:
    return Response(headers=directory_headers(call, target, note))


async def _tag_directory(call: Call, target: Path, note: str) -> Response:
    call.local.store.note(note, blobs.DIRECTORY, metadata(call))
    return Response(headers=directory_headers(call, target, note))


async def _delete_directory(call: Call, target: Path, note: str) -> Response:
    await run_in_threadpool(shutil.rmtree, target)
    call.local.store.delete(note)
    return Response(status_code=200)


def metadata(call: Call) -> dict[str, str]:
    """As headers: blob storage's way gives them so, Data Lake's as `name=BASE64,…` in one."""
    headers = call.request.headers
    given = {key: value for key, value in headers.items() if key.startswith(blobs.METADATA)}
    for pair in filter(None, headers.get("x-ms-properties", "").split(",")):
        name, _, value = pair.strip().partition("=")
        try:
            given[blobs.METADATA + name] = b64decode(value).decode("latin-1")
        except binascii.Error as exc:
            raise BlobError(400, "InvalidMetadata", f"The property {name!r} is no base64.") from exc
    return given


def directory_headers(call: Call, target: Path, note: str) -> dict[str, str]:
    about = target.stat()
    return {
        "Content-Length": "0",
        "ETag": f'"0x{about.st_mtime_ns:X}"',
        "Last-Modified": formatdate(about.st_mtime, usegmt=True),
        "x-ms-blob-type": "BlockBlob",
        "x-ms-resource-type": "directory",
        f"{blobs.METADATA}hdi_isfolder": "true",
        **(call.local.store.noted(note, blobs.DIRECTORY) or {}),
    }


def _list(call: Call, folder: Path) -> Response:
    query, size = call.query, containers.PAGE
    start = uris.below(folder, query.get("directory", ""))
    if not start.is_dir():
        raise BlobError(404, "PathNotFound", "The specified path does not exist.")
    is_deep = query.get("recursive", "").lower() == "true"
    found = start.rglob("*") if is_deep else start.iterdir()
    names = sorted(entry.relative_to(folder).as_posix() for entry in found)
    rest = [name for name in names if name >= query.get("continuation", "")]
    headers = {"x-ms-continuation": rest[size]} if len(rest) > size else {}
    return JSONResponse({"paths": [_entry(folder, name) for name in rest[:size]]}, 200, headers)


def _entry(folder: Path, name: str) -> dict[str, Any]:
    entry = folder / name
    about, is_directory = entry.stat(), entry.is_dir()
    return {
        "name": name,
        **({"isDirectory": "true"} if is_directory else {}),
        "contentLength": "0" if is_directory else str(about.st_size),
        "lastModified": formatdate(about.st_mtime, usegmt=True),
        "etag": f"0x{about.st_mtime_ns:X}",
        "owner": "$superuser",
        "group": "$superuser",
        "permissions": "rwxr-x---" if is_directory else "rw-r-----",
    }


_PATHS: dict[tuple[str, str], Any] = {
    ("PUT", "file"): _create_file,
    ("PATCH", "append"): _append,
    ("PATCH", "flush"): _flush,
    ("PUT", "directory"): _create_directory,
    ("HEAD", "directory"): _show_directory,
    ("PUT", "metadata"): _tag_directory,
    ("DELETE", "directory"): _delete_directory,
}
