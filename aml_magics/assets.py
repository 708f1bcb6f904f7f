"""Data, models, environments, components, compute, datastores and endpoints: one set of verbs.

What differs between the kinds is in KINDS; the verbs are those all of MLClient's operation groups
share.
"""

from __future__ import annotations

import io
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aml_magics import client, documents, settings
from aml_magics.errors import BadCommand
from aml_magics.records import Done, Fields, Row, brief
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd


class Kind(NamedTuple):
    operations: str  # attribute of MLClient
    loader: str  # function of azure.ai.ml
    columns: tuple[str, ...]  # of a list
    versioned: bool = False
    costs: bool = False  # deleting stops machines: ask for --yes


_VERSIONED = ("name", "version", "latest_version", "type", "description", "created")
_UNTYPED = tuple(column for column in _VERSIONED if column != "type")  # a list does not tell
KINDS = {
    "data": Kind("data", "load_data", _VERSIONED, versioned=True),
    "model": Kind("models", "load_model", _UNTYPED, versioned=True),
    "environment": Kind("environments", "load_environment", _VERSIONED, versioned=True),
    "component": Kind("components", "load_component", _VERSIONED, versioned=True),
    "compute": Kind(
        "compute", "load_compute", ("name", "type", "size", "provisioning_state"), costs=True
    ),
    "datastore": Kind("datastores", "load_datastore", ("name", "type", "account_name")),
    "online-endpoint": Kind(
        "online_endpoints",
        "load_online_endpoint",
        ("name", "auth_mode", "traffic", "provisioning_state", "scoring_uri"),
        costs=True,
    ),
    "online-deployment": Kind(
        "online_deployments",
        "load_online_deployment",
        ("name", "endpoint_name", "model", "instance_type", "provisioning_state"),
        costs=True,
    ),
    "schedule": Kind(
        "schedules", "load_schedule", ("name", "is_enabled", "trigger", "description")
    ),
}
# Flags of az ml whose place in the YAML has another name.
FIELDS = {"build_context": "build.path", "dockerfile_path": "build.dockerfile_path"}
# What the SDK makes of the service's words here and there: EndpointProvisioningState.SUCCEEDED
ENUM_MEMBER = re.compile(r"[A-Z][a-z]\w+\.([A-Z]+)")
# Fields a card leaves out; ``.data`` has them all.
HIDDEN = frozenset(
    (
        *("name", "version", "id", "creation_context", "properties", "code_configuration"),
        *("identity", "kind", "public_network_access", "openapi_uri", "mirror_traffic"),
        *("credentials", "endpoint", "protocol", "scale_settings", "request_settings"),
        *("liveness_probe", "readiness_probe", "app_insights_enabled"),
        "egress_public_network_access",
    )
)


class Asset(Fields):
    """One asset, compute, datastore, endpoint or deployment; its fields are attributes."""

    def __init__(self, kind: str, data: dict[str, Any]) -> None:
        created = (data.get("creation_context") or {}).get("created_at") or ""
        shown = {**data, "created": created[:19].replace("T", " ")}
        version = f":{data['version']}" if data.get("version") else ""
        super().__init__(f"{kind} {data.get('name')}{version}", shown)
        self.kind = kind

    def _rows(self) -> list[Row]:
        fields = ((k, v) for k, v in self.data.items() if k not in HIDDEN)
        return [(key.replace("_", " "), _short(brief(value))) for key, value in fields]


def create(
    session: Session,
    *,
    kind: str,
    file: str = "",
    overrides: list[str] | None = None,
    tags: list[str] | None = None,
    all_traffic: bool = False,
    no_wait: bool = False,
    **fields: str,
) -> Asset | Done:
    """Create or replace one, from a YAML file, from flags, or both; flags win.

    Raises: BadInput: no such file, or the YAML fails the schema. Refused: the workspace declines.
    """
    source = documents.read(file) if file else "{}"
    place = Path(file).expanduser().resolve() if file else Path.cwd() / f"{kind}.yml"
    changes: dict[str, Any] = {FIELDS.get(key, key): value for key, value in fields.items()}
    changes |= documents.below("tags", documents.assignments(tags, "--tags"))
    changes |= documents.assignments(overrides, "--set")
    with client.calling(session) as ml:
        load = client.loader(KINDS[kind].loader)
        params = [{path: value} for path, value in changes.items()]
        entity = load(io.StringIO(source), relative_origin=str(place), params_override=params)
        saved = _save(ml, kind, entity, no_wait)
        if all_traffic:
            _send_all_traffic(ml, entity.endpoint_name, entity.name)
    if saved is None:
        return Done(f"creating {kind} {entity.name}")
    return Asset(kind, plain(saved))


def show(
    session: Session,
    *,
    kind: str,
    name: str,
    version: str = "",
    label: str = "",
    endpoint_name: str = "",
) -> Asset:
    """One of a kind; of a versioned one, the latest unless told.

    Raises: NotFound: there is none.
    """
    with client.calling(session, hint=f"%aml {kind} list") as ml:
        return Asset(
            kind, plain(find(ml, kind, name, version, label=label, endpoint_name=endpoint_name))
        )


def list_(
    session: Session,
    *,
    kind: str,
    name: str = "",
    endpoint_name: str = "",
    max_results: int = 0,
    include_archived: bool = False,
    archived_only: bool = False,
) -> pd.DataFrame:
    """All of a kind as a DataFrame; with a name, its versions."""
    import pandas as pd

    wanted: dict[str, Any] = {"name": name, "endpoint_name": endpoint_name}
    wanted = {key: value for key, value in wanted.items() if value}
    if include_archived or archived_only:
        wanted["list_view_type"] = "ArchivedOnly" if archived_only else "All"
    limit = max_results or settings.get("max_results")
    with client.calling(session) as ml:
        found = islice(getattr(ml, KINDS[kind].operations).list(**wanted), limit)
        rows = [Asset(kind, plain(entity)).data for entity in found]
    columns = [c for c in KINDS[kind].columns if not rows or any(row.get(c) for row in rows)]
    return pd.DataFrame(rows, columns=columns)


def update(
    session: Session,
    *,
    kind: str,
    name: str,
    version: str = "",
    label: str = "",
    endpoint_name: str = "",
    overrides: list[str] | None = None,
    tags: list[str] | None = None,
    traffic: list[str] | None = None,
    no_wait: bool = False,
    **fields: str,
) -> Asset | Done:
    """Change fields of one that exists."""
    changes: dict[str, Any] = {**fields, **documents.assignments(overrides, "--set")}
    changes |= documents.below("tags", documents.assignments(tags, "--tags"))
    shares = [word for words in traffic or [] for word in words.split()]
    changes |= documents.below("traffic", _percentages(shares))
    if not changes:
        raise BadCommand(
            "nothing to change", hint=f"%aml {kind} update -n {name} --set FIELD=VALUE"
        )
    with client.calling(session, hint=f"%aml {kind} list") as ml:
        entity = find(ml, kind, name, version, label=label, endpoint_name=endpoint_name)
        for path, value in changes.items():
            _assign(entity, path, value)
        saved = _save(ml, kind, entity, no_wait)
    return Asset(kind, plain(saved)) if saved is not None else Done(f"updating {kind} {name}")


def archive(session: Session, *, kind: str, name: str, version: str = "", label: str = "") -> Done:
    """Leave an asset, or one version of it, out of lists."""
    return _hide(session, "archive", kind, name, version=version, label=label)


def restore(session: Session, *, kind: str, name: str, version: str = "", label: str = "") -> Done:
    """Bring an archived asset back into lists."""
    return _hide(session, "restore", kind, name, version=version, label=label)


def delete(
    session: Session,
    *,
    kind: str,
    name: str,
    endpoint_name: str = "",
    yes: bool = False,
    no_wait: bool = False,
) -> Done:
    """Delete one; ``yes`` is asked for where machines stop with it.

    Raises: BadCommand: ``yes`` is missing. NotFound: there is none.
    """
    if KINDS[kind].costs and not yes:
        raise BadCommand(f"deleting {kind} '{name}' cannot be undone", hint="add --yes to do it")
    parent = {"endpoint_name": endpoint_name} if endpoint_name else {}
    with client.calling(session, hint=f"%aml {kind} list") as ml:
        _run(getattr(ml, KINDS[kind].operations), "delete", no_wait, name=name, **parent)
    return Done(f"{'deleting' if no_wait else 'deleted'} {kind} {name}")


def plain(entity: Any) -> dict[str, Any]:
    """An SDK entity as az ml shows it: snake_case fields, nested dicts and lists."""
    return {str(key): _plain_value(value) for key, value in entity._to_dict().items()}


def find(
    ml: Any, kind: str, name: str, version: str = "", *, label: str = "", endpoint_name: str = ""
) -> Any:
    """The SDK's entity of that name; a versioned one also by ``NAME:VERSION`` or ``NAME@LABEL``."""
    operations = getattr(ml, KINDS[kind].operations)
    if endpoint_name:
        return operations.get(name=name, endpoint_name=endpoint_name)
    if not KINDS[kind].versioned:
        return operations.get(name)
    name, in_name, label_in_name = named(name)
    version, label = version or in_name, label or label_in_name
    chosen = {"version": version} if version else {"label": label or "latest"}
    return operations.get(name, **chosen)


def named(text: str) -> tuple[str, str, str]:
    """Name, version and label of ``[azureml:]NAME[:VERSION|@LABEL]``."""
    text = text.removeprefix("azureml:")
    name, _, label = text.partition("@")
    name, _, version = name.partition(":")
    return name, version, label


def _plain_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain_value(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain_value(v) for v in value]
    if isinstance(value, (bool, int, float, type(None))):
        return value
    member = ENUM_MEMBER.fullmatch(str(value))
    return member.group(1).capitalize() if member else str(value)


def _save(ml: Any, kind: str, entity: Any, no_wait: bool) -> Any:
    return _run(getattr(ml, KINDS[kind].operations), "create_or_update", no_wait, entity)


def _run(operations: Any, verb: str, no_wait: bool, *args: Any, **options: Any) -> Any:
    """Call a verb, in its long-running form where there is one; None when it is not waited for."""
    begin = getattr(operations, f"begin_{verb}", None)
    if begin is None:
        return getattr(operations, verb)(*args, **options)
    poller = begin(*args, **options)
    return None if no_wait else poller.result()


def _hide(session: Session, verb: str, kind: str, name: str, **which: str) -> Done:
    chosen = {key: value for key, value in which.items() if value}
    with client.calling(session, hint=f"%aml {kind} list") as ml:
        getattr(getattr(ml, KINDS[kind].operations), verb)(name, **chosen)
    return Done(f"{verb}d {kind} {name}")


def _assign(entity: Any, path: str, value: Any) -> None:
    """Set a field by dotted path, through attributes and dicts."""
    *parents, leaf = documents.steps(path)
    node = entity
    for parent in parents:
        node = node[parent] if isinstance(node, dict) else getattr(node, parent)
    if isinstance(node, dict):
        node[leaf] = value
    elif hasattr(node, leaf):
        setattr(node, leaf, value)
    else:
        raise BadCommand(f"no field '{path}'", hint="--set FIELD=VALUE, as in its YAML")


def _percentages(words: list[str]) -> dict[str, int]:
    """``DEPLOYMENT=PERCENT`` words of ``--traffic``."""
    shares = documents.assignments(words, "--traffic")
    if not all(str(share).isdigit() for share in shares.values()):
        raise BadCommand("traffic is in whole percent", hint="--traffic blue=90 green=10")
    return {name: int(share) for name, share in shares.items()}


def _send_all_traffic(ml: Any, endpoint_name: str, deployment: str) -> None:
    endpoint = ml.online_endpoints.get(endpoint_name)
    endpoint.traffic = {deployment: 100}
    ml.online_endpoints.begin_create_or_update(endpoint).result()


def _short(text: str) -> str:
    """A datastore path or ARM id by its end: a workspace's own part says nothing."""
    for mark in ("/datastores/", "/workspaces/"):
        if text.startswith(("azureml:/", "/subscriptions/")) and mark in text:
            return f"…{mark}{text.partition(mark)[2]}"
    return text
