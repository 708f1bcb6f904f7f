"""Data that is not in the workspace's own storage: from `AML_LOCAL_DATA`, or from the web.

`AML_LOCAL_DATA` is a folder that stands for storage elsewhere, host first:
`https://acct.blob.core.windows.net/container/a.csv` is `acct.blob.core.windows.net/container/a.csv`
in it. Every other way to name that blob leads there too, and jobs write there what they put on
another account's datastores.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from aml_magics.local import files, uris
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, Workspace, bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20
CONNECTIONS = "connection://connections/"  # what connections lead to, by their names
# Schemes of storage, as https addresses: wasbs://CONTAINER@ACCOUNT.blob.core.windows.net/PATH.
_CONTAINED = re.compile(r"(?:wasbs?|abfss?)://([^@/]+)@([^/]+)/(.*)")
_DATASTORE = re.compile(
    r"azureml://(?:subscriptions/.*?/)?datastores/([^/]+)/(?:paths/)?(.*)$", re.IGNORECASE
)


def local_path(local: Local, ws: Workspace, uri: str) -> Path:
    """Where the data that `uri` names is on this machine, brought here if need be.

    Raises: ArmError: it cannot be had; the message names it.
    """
    address = _address(local, ws, uri)
    if address is None:
        return uris.local_path(local, ws, uri)
    known = mapped(address)
    if known is not None:
        return known
    if not address.startswith(("http:", "https:")) or uri.startswith("azureml:"):
        raise bad_request(f"{uri} is not on this machine.{_HINT}")
    return _download(local, address)


def destination(local: Local, ws: Workspace, uri: str) -> Path:
    """Where the data that `uri` names is or will be.

    Raises: ArmError: that is not on this machine.
    """
    address = _address(local, ws, uri)
    if address is None:
        return uris.destination(local, ws, uri)
    place = _place_of(address)
    if place is None:
        raise bad_request(f"{uri} is not on this machine.{_HINT}")
    return place


def is_elsewhere(local: Local, ws: Workspace, uri: str) -> bool:
    """Whether the data is not in the workspace's own storage."""
    return _address(local, ws, uri) is not None


_HINT = " Put it under the folder that AML_LOCAL_DATA names, and start the workspace anew."


def _address(local: Local, ws: Workspace, uri: str) -> str | None:
    """The https address of data elsewhere, None for what is in the workspace's own storage."""
    if contained := _CONTAINED.fullmatch(uri):
        container, host, path = contained.groups()
        uri = f"https://{host}/{container}/{path}"
    if datastore := _DATASTORE.match(uri):
        row = local.store.get(f"{ws.id}/datastores/{datastore[1]}")
        return _place(row.properties, datastore[2], ws) if row else None
    own = re.match(rf"https://{ws.account}\.", uri)
    is_web = uri.startswith(("http:", "https:", "adl:", CONNECTIONS))
    return uri if is_web and not own else None


def _place(datastore: Body, path: str, ws: Workspace) -> str | None:
    account = datastore.get("accountName")
    if account == ws.account:
        return None
    service = {"AzureFile": "file", "AzureDataLakeGen2": "dfs"}.get(datastore["datastoreType"])
    container = next(
        (datastore[k] for k in ("containerName", "fileShareName", "filesystem") if k in datastore),
        "",
    )
    host = account or datastore.get("storeName") or datastore.get("oneLakeWorkspaceName")
    return f"https://{host}.{service or 'blob'}.core.windows.net/{container}/{path}"


def mapped(address: str) -> Path | None:
    """The file or folder that stands for an address, if there is one."""
    place = _place_of(address)
    return place if place and place.exists() else None


def _place_of(address: str) -> Path | None:
    folder = os.environ.get("AML_LOCAL_DATA")
    if not folder:
        return None
    parts = urlsplit(address)
    return uris.below(Path(folder), f"{parts.netloc}/{unquote(parts.path)}")


def _download(local: Local, address: str) -> Path:
    """Fetch a file once; the next job finds it."""
    import requests

    name = unquote(urlsplit(address).path).rpartition("/")[2] or "data"
    folder = local.home / "downloads" / sha256(address.encode()).hexdigest()[:24]
    path = uris.below(folder, name)
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder.with_suffix(".lock")):
        if not path.exists():
            partial = folder / ".partial"
            try:
                with requests.get(address, stream=True, timeout=TIMEOUT) as answer:
                    answer.raise_for_status()
                    with partial.open("wb") as file:
                        file.writelines(answer.iter_content(CHUNK))
            except requests.RequestException as exc:
                why = f"{address} cannot be fetched: {type(exc).__name__}.{_HINT}"
                raise ArmError(400, "UserError", why, "DataNotReachable") from exc
            partial.replace(path)
    return path
