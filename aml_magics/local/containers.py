"""Containers of blob storage: created, looked at, and listed in pages, in the order of names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote
from uuid import uuid4
from xml.etree import ElementTree as ET

from starlette.responses import Response

from aml_magics.local import blobs, signatures, uris
from aml_magics.local.signatures import BlobError
from aml_magics.local.wire import ArmError, Call, Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local
    from aml_magics.local.doors import Door

PAGE = 5000  # the most, and what a client gets that names no number
_LISTED = {
    "Last-Modified": "Last-Modified",
    "ETag": "Etag",
    "Content-Length": "Content-Length",
    "Content-Type": "Content-Type",
    "x-ms-blob-content-md5": "Content-MD5",
    "x-ms-blob-type": "BlobType",
}


class Listing(NamedTuple):
    """What a client asks for. `marker`: the first name to show."""

    prefix: str
    delimiter: str
    marker: str
    limit: int


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


def request(call: Call) -> Response:
    """Create, look at or list a container."""
    account, container = call.path["account"], call.path["container"]
    signatures.authorize(call, account, container, "")
    folder = uris.container(call.local, account, container)
    if call.request.method == "PUT":
        return _create(folder)
    if call.request.method == "DELETE":
        raise ArmError(501, "NotImplemented", "Containers cannot be deleted.")
    if call.query.get("comp") == "list":
        return _list(call, folder, asked(call))
    if not folder.exists():
        raise BlobError(404, "ContainerNotFound", "The container does not exist.")
    return Response(headers={"ETag": '"0"', "Last-Modified": formatdate(0, usegmt=True)})


def _create(folder: Path) -> Response:
    try:
        folder.mkdir(parents=True)
    except FileExistsError as exc:
        message = "The container already exists."
        raise BlobError(409, "ContainerAlreadyExists", message) from exc
    return Response(status_code=201)


def asked(call: Call) -> Listing:
    text = call.query.get("maxresults", str(PAGE))
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if limit < 1:
        message = f"maxresults is not a whole number from 1: {text[:80]}"
        raise BlobError(400, "OutOfRangeQueryParameterValue", message)
    prefix, delimiter, marker = (
        call.query.get(name, "") for name in ("prefix", "delimiter", "marker")
    )
    return Listing(prefix, delimiter, marker, min(limit, PAGE))


def _list(call: Call, folder: Path, asked: Listing) -> Response:
    root = ET.Element("EnumerationResults", ContainerName=folder.name)
    add(root, "Prefix", asked.prefix)
    items, rest, shown = ET.SubElement(root, "Blobs"), "", 0
    for name in _entries(str(folder), asked):
        if shown == asked.limit:
            rest = name
            break
        shown += _show(call, items, folder, name, asked.delimiter)
    add(root, "NextMarker", rest)
    return Response(b"\xef\xbb\xbf" + ET.tostring(root, "utf-8"), media_type="application/xml")


def _entries(folder: str, asked: Listing) -> Iterator[str]:
    """Names to show, from the marker on; one that ends in the delimiter stands for all below."""
    last = ""
    for name in _names(folder, "", asked):
        below = name[len(asked.prefix) :]
        head, cut, _ = below.partition(asked.delimiter) if asked.delimiter else (below, "", "")
        entry = asked.prefix + head + cut
        if entry != last:
            yield entry
        last = entry


def _names(folder: str, above: str, asked: Listing) -> Iterator[str]:
    """Names of blobs in their order, walking only the folders that have some of the page.

    Args: above: the name of the folder in the container, with a slash at the end.
    """
    for is_folder, key in _sorted(folder):
        name = above + key
        is_before = name < asked.marker and not asked.marker.startswith(name)
        if not is_folder:
            if name.startswith(asked.prefix) and name >= asked.marker:
                yield name
        elif not is_before and (name.startswith(asked.prefix) or asked.prefix.startswith(name)):
            yield from _names(f"{folder}/{key}", name, asked)


def _sorted(folder: str) -> list[tuple[bool, str]]:
    """What is in a folder, as names of blobs sort: folders with the slash they go on with."""
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.is_dir(follow_symlinks=False), entry.name) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):  # never there, or gone meanwhile
        return []
    named = [(is_folder, f"{name}/" if is_folder else name) for is_folder, name in kinds]
    return sorted(named, key=lambda entry: entry[1])


def _show(call: Call, items: ET.Element, folder: Path, name: str, delimiter: str) -> bool:
    """Add an entry; False for a blob that is gone meanwhile."""
    if delimiter and name.endswith(delimiter):
        add(ET.SubElement(items, "BlobPrefix"), "Name", name)
        return True
    try:
        about = os.stat(f"{folder}/{name}")  # noqa: PTH116 (thousands in a page)
    except OSError:
        return False
    note = blobs.note_id(call.path["account"], folder.name, name)
    item, headers = ET.SubElement(items, "Blob"), blobs.properties(call.local, about, note)
    add(item, "Name", name)
    properties = ET.SubElement(item, "Properties")
    for header, element in _LISTED.items():
        add(properties, element, headers.get(header, ""))
    metadata = ET.SubElement(item, "Metadata")
    for key, value in headers.items():
        if key.startswith(blobs.METADATA):
            add(metadata, key.removeprefix(blobs.METADATA), value)
    return True


def add(parent: ET.Element, tag: str, text: str) -> None:
    """Add a text; one that XML cannot hold is encoded as in a URL, and says so."""
    element = ET.SubElement(parent, tag)
    if signatures.UNSPEAKABLE.search(text):
        element.set("Encoded", "true")
        text = quote(text, errors="surrogateescape")
    element.text = text
