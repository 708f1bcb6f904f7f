"""Azure ML's ways to name data, each turned into the path of a file or folder on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aml_magics.local.wire import Workspace, bad_request, not_found

if TYPE_CHECKING:
    from aml_magics.local.app import Local
    from aml_magics.local.store import Resource

LONGEST = 255  # bytes in the name of a file
ARTIFACTS = "azureml"  # the container of workspaceartifactstore, as on Azure


def datastores(ws: Workspace) -> dict[str, str]:
    """The four datastores every workspace has, with their containers or shares."""
    return {
        "workspaceblobstore": f"azureml-blobstore-{ws.guid}",
        "workspaceartifactstore": ARTIFACTS,
        "workspacefilestore": f"azureml-filestore-{ws.guid}",
        "workspaceworkingdirectory": f"code-{ws.guid}",
    }


def account(local: Local, name: str) -> Path:
    """The folder of a storage account."""
    return below(local.home / "storage", name)


def container(local: Local, account: str, name: str) -> Path:
    return below(local.home / "storage", f"{account}/{name}")


def below(folder: Path, name: str) -> Path:
    """A path inside `folder`.

    Raises: ArmError 400: the name would leave it, or has a part that no file may be called.
    """
    parts = [part for part in name.split("/") if part]
    if ".." in parts or "\\" in name or "\0" in name:
        raise bad_request(f"The path {name!r} leaves its container.")
    if any(len(part.encode()) > LONGEST for part in parts):
        raise bad_request(f"The path {name[:80]!r}… has a part of more than {LONGEST} bytes.")
    return folder.joinpath(*parts)


def artifacts(local: Local, ws: Workspace, job: str) -> Path:
    """The folder that is the default output of a job and the artifact root of its run."""
    return below(container(local, ws.account, ARTIFACTS), f"ExperimentRun/dcid.{job}")


def long_uri(ws: Workspace, uri: str) -> str:
    """`azureml://datastores/…` with its workspace spelled out, as the service answers it.

    The address of a blob loses the door that it was uploaded through.
    """
    uri = re.sub(r"^(https://(\w+)\.blob\.core\.windows\.net)@[^/]+/blob/(?:\2/)?", r"\1/", uri)
    scope = (
        f"azureml://subscriptions/{ws.subscription}/resourcegroups/{ws.resource_group}"
        f"/workspaces/{ws.name}/datastores/"
    )
    return re.sub(r"^azureml://datastores/", scope, uri)


def datastore_uri(local: Local, ws: Workspace, path: Path) -> str:
    """The long URI of a file or folder that is in one of the workspace's own datastores."""
    place, _, rest = path.relative_to(local.home / "storage" / ws.account).as_posix().partition("/")
    for name, root in datastores(ws).items():
        if root == place:
            return long_uri(ws, f"azureml://datastores/{name}/paths/{rest}")
    return f"https://{ws.account}.blob.core.windows.net/{place}/{rest}"


def local_path(local: Local, ws: Workspace, uri: str) -> Path:
    """Where the data that `uri` names is on this machine.

    Raises: ArmError: it is not named in a form known here, or is not there.
    """
    path = destination(local, ws, uri)
    if not path.exists():
        raise not_found(f"Nothing is stored at {uri}.")
    return path


def destination(local: Local, ws: Workspace, uri: str) -> Path:
    """Where the data that `uri` names is or will be.

    Raises: ArmError: it is not named in a form known here.
    """
    _check_scope(ws, uri)
    for pattern, resolve in _FORMS:
        match = re.match(pattern, uri, re.IGNORECASE)
        if match:
            return resolve(local, ws, match)
    raise bad_request(f"{uri} names no data that is on this machine.")


def _check_scope(ws: Workspace, uri: str) -> None:
    match = _SCOPED.match(uri)
    own = (ws.subscription, ws.resource_group, ws.name)
    if match and [part.lower() for part in match.groups()] != [part.lower() for part in own]:
        raise bad_request(f"{uri} is of another workspace.")


def _datastore(local: Local, ws: Workspace, match: re.Match[str]) -> Path:
    name, path = match["store"], match["path"]
    row = local.store.get(f"{ws.id}/datastores/{name}")
    if row is None:
        raise not_found(f"Could not find datastore: {name}.")
    fields = ("containerName", "fileShareName", "filesystem")
    place = next((row.properties[field] for field in fields if row.properties.get(field)), None)
    if row.properties.get("accountName") != ws.account or not place:
        raise bad_request(f"Datastore {name} is not on this machine.")
    return below(container(local, ws.account, place), path)


def _job_output(local: Local, ws: Workspace, match: re.Match[str]) -> Path:
    job, output, path = match["job"], match["output"], match["path"] or ""
    if output in ("artifacts", "default"):
        plain = below(artifacts(local, ws, job), path)
        return plain if plain.exists() else local.mlflow.model_folder(ws, job, path) or plain
    row = local.store.get(f"{ws.id}/jobs/{job}")
    outputs = (row.properties.get("outputs") or {}) if row else {}
    if output not in outputs:
        raise not_found(f"Job {job} has no output {output}.")
    return below(local_path(local, ws, outputs[output]["uri"]), path)


def _run_artifact(local: Local, ws: Workspace, match: re.Match[str]) -> Path:
    plain = below(artifacts(local, ws, match["job"]), match["path"])
    return plain if plain.exists() else local.mlflow.model_folder(ws, *match.groups()) or plain


def _blob(local: Local, ws: Workspace, match: re.Match[str]) -> Path:
    return below(container(local, match["account"], match["container"]), match["path"])


def _asset(local: Local, ws: Workspace, match: re.Match[str]) -> Path:
    """Where an asset of the workspace or of a registry is, named in any form `asset` knows."""
    return _place(local, ws, match[0], match["kind"] or "data")


def _place(local: Local, ws: Workspace, id: str, kind: str) -> Path:  # noqa: A002
    row = asset(local, ws, id, kind)
    if row is None:
        raise not_found(f"No {kind} asset {id} is on this machine.")
    keys = ("dataUri", "modelUri", "codeUri")
    uri = next((row.properties[key] for key in keys if row.properties.get(key)), "")
    return local_path(local, local.workspace_of(row.id), uri)


def _model(local: Local, ws: Workspace, match: re.Match[str]) -> Path:
    """MLflow's name of a version in the registry, which is the workspace's model."""
    return _place(local, ws, f"azureml:{match['name']}:{match['version']}", "models")


def asset(local: Local, ws: Workspace, id: str, kind: str = "data") -> Resource | None:  # noqa: A002
    """The version of an asset that an id names, or None.

    Args:
        id: an ARM id, `azureml:` and one, `azureml:NAME:VERSION`, or one of a registry:
            `azureml://registries/REGISTRY/KIND/NAME/versions/VERSION`, or `…/labels/latest`.
        kind: what `azureml:NAME:VERSION` names.
    """
    if match := _IN_REGISTRY.fullmatch(id):
        scope = registry(local, match["registry"])
        container = f"{scope.id}/{match['kind']}/{match['name']}" if scope else ""
        if match["version"]:
            return local.store.get(f"{container}/versions/{match['version']}")
        rows = local.store.children(
            container, f"{match['kind']}/versions", view="ActiveOnly", top=1
        )
        return rows[0] if rows else None
    if match := _SHORT.fullmatch(id) or _LOCATED.fullmatch(id):
        return local.store.get(f"{ws.id}/{kind}/{match['name']}/versions/{match['version']}")
    return local.store.get(id.removeprefix("azureml:"))


def registry(local: Local, name: str) -> Workspace | None:
    """The registry of that name: there is one in all subscriptions."""
    rows = local.store.of_kind("registries")
    return next(
        (local.workspace_of(row.id) for row in rows if row.name.lower() == name.lower()), None
    )


def _proxied(local: Local, ws: Workspace, match: re.Match[str]) -> Path:
    return below(local.home / "storage", match["path"])


_SCOPED = re.compile(
    r"(?:azureml:(?://)?)?/?subscriptions/([^/]+)/resourcegroups/([^/]+)(?:/providers/[^/]+)?"
    r"/workspaces/([^/]+)/",
    re.IGNORECASE,
)
_SHORT = re.compile(r"(?:azureml:)?(?P<name>[^:/]+):(?P<version>[^:/]+)")
_LOCATED = re.compile(
    r"azureml://locations/.*/workspaces/[^/]+/\w+/(?P<name>[^/]+)/versions/(?P<version>[^/]+)"
)
_IN_REGISTRY = re.compile(
    r"(?:azureml:)?//registries/(?P<registry>[^/]+)/(?P<kind>\w+)/(?P<name>[^/]+)"
    r"(?:/versions/(?P<version>[^/]+)|/labels/latest)?",
    re.IGNORECASE,
)
_FORMS: tuple[tuple[str, Callable[[Local, Workspace, re.Match[str]], Path]], ...] = (
    (
        r"azureml://(?:subscriptions/.*?/)?datastores/(?P<store>[^/]+)/(?:paths/)?(?P<path>.*)$",
        _datastore,
    ),
    (
        r"azureml://(?:subscriptions/.*?/)?jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)"
        r"(?:/paths/?(?P<path>.*))?$",
        _job_output,
    ),
    (r"runs:/(?P<job>[^/]+)/(?P<path>.*)$", _run_artifact),
    (
        r"https://(?P<account>aml[0-9a-f]{21})\.(?:blob|dfs)\.core\.windows\.net(?::443)?"
        r"/(?P<container>[^/?]+)/?(?P<path>[^?]*)",
        _blob,
    ),
    (
        r"(?:wasb|abfs)s?://(?P<container>[^@/]+)@(?P<account>aml[0-9a-f]{21})"
        r"\.(?:blob|dfs)\.core\.windows\.net/(?P<path>.*)",
        _blob,
    ),
    (r"mlflow-artifacts:/+(?P<path>aml.*)$", _proxied),
    (
        r"(?:azureml:|azureml://locations)?/.*/workspaces/[^/]+/(?P<kind>data|models|codes)"
        r"/[^/]+/versions/[^/]+$",
        _asset,
    ),
    (r"(?:azureml:)?//registries/[^/]+/(?P<kind>data|models|codes)/.+$", _asset),
    (r"azureml:(?P<kind>)[^:/]+:[^:/]+$", _asset),
    (r"models:/(?P<name>[^:/]+)/(?P<version>[^:/]+)$", _model),
)
