"""Data, models, computes, endpoints, registries and the other kinds: one set of verbs.

What differs between the kinds is in `kinds`; the verbs are those all of MLClient's operation groups
share. ``place`` is where a verb looks instead of the session's workspace: ``registry_name`` or
``feature_store_name``.
"""

from __future__ import annotations

import io
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aml_magics import client, documents, settings
from aml_magics.errors import BadCommand, NotSupported
from aml_magics.kinds import ENUM_MEMBER, FIELDS, HIDDEN, KINDS
from aml_magics.quiet import quiet
from aml_magics.records import Done, Fields, Row, brief
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd


Changes = dict[str, Any]  # by dotted path
TEXTS = frozenset(("tags", "properties", "environment_variables"))  # whose values are all text
# Verbs of the SDK for ours: the first that a kind's operations have.
CREATE = ("create_or_update", "create")
UPDATE = ("update", *CREATE)


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
    set_default: bool = False,
    no_wait: bool = False,
    registry_name: str = "",
    feature_store_name: str = "",
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
    with client.calling(session, "", registry_name, feature_store_name) as ml:
        load = _loader(kind, source, changes)
        params = [{path: value} for path, value in changes.items()]
        entity = load(io.StringIO(source), relative_origin=str(place), params_override=params)
        saved = _save(ml, kind, entity, no_wait, CREATE)
        if all_traffic:
            _send_all_traffic(ml, entity.endpoint_name, entity.name)
        if set_default:
            _make_default(ml, entity.endpoint_name, entity.name)
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
    registry_name: str = "",
    feature_store_name: str = "",
) -> Asset:
    """One of a kind; of a versioned one, the latest unless told.

    Raises: NotFound: there is none.
    """
    with client.calling(session, _listing(kind), registry_name, feature_store_name) as ml:
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
    registry_name: str = "",
    feature_store_name: str = "",
    **filters: str,
) -> pd.DataFrame:
    """All of a kind as a DataFrame; with a name, its versions."""
    import pandas as pd

    renamed = {KINDS[kind].filters.get(key, key): value for key, value in filters.items()}
    wanted: dict[str, Any] = {"name": name, "endpoint_name": endpoint_name, **renamed}
    wanted = {key: value for key, value in wanted.items() if value}
    if include_archived or archived_only:
        wanted["list_view_type"] = "ArchivedOnly" if archived_only else "All"
    limit = max_results or settings.get("max_results")
    with client.calling(session, "", registry_name, feature_store_name) as ml:
        found = islice(getattr(ml, KINDS[kind].operations).list(**wanted), limit)
        rows = [Asset(kind, plain(entity)).data for entity in found]
    columns = [c for c in KINDS[kind].columns if not rows or any(row.get(c) for row in rows)]
    return pd.DataFrame(rows, columns=columns)


def update(
    session: Session,
    *,
    kind: str,
    name: str = "",
    version: str = "",
    label: str = "",
    endpoint_name: str = "",
    file: str = "",
    overrides: list[str] | None = None,
    tags: list[str] | None = None,
    traffic: list[str] | None = None,
    mirror_traffic: list[str] | None = None,
    defaults: list[str] | None = None,
    no_wait: bool = False,
    registry_name: str = "",
    feature_store_name: str = "",
    **fields: str,
) -> Asset | Done:
    """Change fields of one that exists; a file says all of them anew."""
    changes: Changes = {**fields, **documents.assignments(overrides, "--set")}
    changes |= documents.below("tags", documents.assignments(tags, "--tags"))
    changes |= documents.below("defaults", documents.assignments(defaults, "--defaults"))
    for field, said in (("traffic", traffic), ("mirror_traffic", mirror_traffic)):
        shares = [word for words in said or [] for word in words.split()]
        changes |= documents.below(field, percentages(shares, f"--{field.replace('_', '-')}"))
    if not (name and changes) and not file:
        raise BadCommand(
            "nothing to change", hint=f"%aml {kind} update -n {name or 'NAME'} --set FIELD=VALUE"
        )
    with client.calling(session, _listing(kind), registry_name, feature_store_name) as ml:
        told = _from_file(kind, file, name, endpoint_name) if file else None
        if told is not None:
            name, endpoint_name = told.name, getattr(told, "endpoint_name", "")
        found = find(ml, kind, name, version, label=label, endpoint_name=endpoint_name)
        entity = told if told is not None else found
        for path, value in changes.items():
            _assign(entity, path, value)
        saved = _save(ml, kind, entity, no_wait, UPDATE)
    return Asset(kind, plain(saved)) if saved is not None else Done(f"updating {kind} {name}")


def archive(
    session: Session, *, kind: str, name: str, version: str = "", label: str = "", **place: str
) -> Done:
    """Leave an asset, or one version of it, out of lists."""
    which = {"name": name, "version": version, "label": label}
    return _hide(session, "archive", kind, which, **place)


def restore(
    session: Session, *, kind: str, name: str, version: str = "", label: str = "", **place: str
) -> Done:
    """Bring an archived asset back into lists."""
    which = {"name": name, "version": version, "label": label}
    return _hide(session, "restore", kind, which, **place)


def delete(
    session: Session,
    *,
    kind: str,
    name: str,
    endpoint_name: str = "",
    yes: bool = False,
    no_wait: bool = False,
    all_resources: bool = False,
    permanently_delete: bool = False,
) -> Done:
    """Delete one; ``yes`` is asked for where machines stop with it.

    Args: all_resources: of a workspace, with the storage and other resources it uses.

    Raises: BadCommand: ``yes`` is missing. NotFound: there is none.
    """
    if KINDS[kind].costs and not yes:
        raise BadCommand(f"deleting {kind} '{name}' cannot be undone", hint="add --yes to do it")
    more: dict[str, Any] = {"endpoint_name": endpoint_name} if endpoint_name else {}
    more |= {"delete_dependent_resources": all_resources} if KINDS[kind].owns else {}
    more |= {"permanently_delete": True} if permanently_delete else {}
    with client.calling(session, _listing(kind)) as ml:
        if hasattr(getattr(ml, KINDS[kind].operations), "get"):  # of nothing, Azure deletes it too
            find(ml, kind, name, endpoint_name=endpoint_name)
        run(getattr(ml, KINDS[kind].operations), ("delete",), no_wait, name=name, **more)
    return Done(f"{'deleting' if no_wait else 'deleted'} {kind} {name}")


def plain(entity: Any) -> dict[str, Any]:
    """An SDK entity as az ml shows it: snake_case fields, nested dicts and lists."""
    with quiet():  # schemas tell once that they are experimental
        return {str(key): _plain_value(value) for key, value in _fields(entity).items()}


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
    """Name, version and label of ``[azureml:]NAME[:VERSION|@LABEL]`` or MLflow's URI of a model."""
    if text.startswith("models:/"):
        text = text.removeprefix("models:/").replace("/", ":")
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


def run(operations: Any, verbs: tuple[str, ...], no_wait: bool, *args: Any, **options: Any) -> Any:
    """Call the first of the verbs that there is, in its long-running form where it has one.

    Returns: its result; None when it is not waited for.
    """
    for verb in verbs:
        if begin := getattr(operations, f"begin_{verb}", None):
            poller = client.begun(begin, *args, **options)
            return None if no_wait else poller.result()
        if direct := getattr(operations, verb, None):
            return direct(*args, **options)
    raise NotSupported(f"the SDK has no '{verbs[-1]}' of these")


def _save(ml: Any, kind: str, entity: Any, no_wait: bool, verbs: tuple[str, ...]) -> Any:
    return run(getattr(ml, KINDS[kind].operations), verbs, no_wait, entity)


def _loader(kind: str, source: str, changes: Changes) -> Any:
    """The SDK's function that reads a kind's YAML."""
    row = KINDS[kind]
    if not row.loaders:
        return client.loader(row.loader)
    said = yaml.safe_load(source)
    named_type = changes.get("type") or (said.get("type") if isinstance(said, dict) else None)
    return client.loader(row.loaders.get(str(named_type), row.loader))


def _from_file(kind: str, file: str, name: str, endpoint_name: str) -> Any:
    """What a file makes of one that exists."""
    source, place = documents.read(file), Path(file).expanduser().resolve()
    given = {"name": name, "endpoint_name": endpoint_name}
    params = [{key: value} for key, value in given.items() if value]
    load = _loader(kind, source, {})
    return load(io.StringIO(source), relative_origin=str(place), params_override=params)


def _listing(kind: str) -> str:
    """What to type when there is none of that name."""
    return f"%aml {kind} list"


def _fields(entity: Any) -> dict[str, Any]:
    """An SDK object's fields, whichever of its ways to tell them it has."""
    if isinstance(entity, dict):
        return entity
    if hasattr(entity, "_to_dict"):
        return dict(entity._to_dict())
    if hasattr(entity, "as_dict"):
        return dict(entity.as_dict())
    return {key: value for key, value in vars(entity).items() if not key.startswith("_")}


def _hide(session: Session, verb: str, kind: str, which: dict[str, str], **place: Any) -> Done:
    place.pop("yes", None)  # some groups have the flag; it can be undone
    chosen = {key: value for key, value in which.items() if value}
    with client.calling(session, _listing(kind), **place) as ml:
        getattr(getattr(ml, KINDS[kind].operations), verb)(**chosen)
    return Done(f"{verb}d {kind} {which['name']}")


def _assign(entity: Any, path: str, value: Any) -> None:
    """Set a field by dotted path, through attributes and dicts."""
    *parents, leaf = documents.steps(path)
    node = entity
    for parent in parents:
        node = node[parent] if isinstance(node, dict) else _part(node, parent)
    if isinstance(node, dict):
        node[leaf] = value if parents[0] in TEXTS else _like(node.get(leaf), value)
    elif not hasattr(node, leaf):
        raise BadCommand(f"no field '{path}'", hint="--set FIELD=VALUE, as in its YAML")
    else:
        try:
            setattr(node, leaf, _like(getattr(node, leaf), value))
        except AttributeError:
            hint = "create it anew, with -f and its YAML"
            raise BadCommand(f"'{path}' is not changed once it is there", hint) from None


def _part(node: Any, name: str) -> Any:
    """A part of an entity to set fields of; what holds shares, tags and such is made when none."""
    found = getattr(node, name, None)
    if found is None and name in {*TEXTS, "traffic", "mirror_traffic", "defaults"}:
        found = {}
        setattr(node, name, found)
    if found is None:
        raise BadCommand(f"no field '{name}' with parts", hint="--set FIELD=VALUE, as in its YAML")
    return found


def _like(now: Any, value: Any) -> Any:
    """Text as the number or switch that it says, unless the field is text now."""
    if not isinstance(value, str) or isinstance(now, str):
        return value
    try:
        said = json.loads(value.lower() if value in {"True", "False"} else value)
    except ValueError:
        return value
    return said if isinstance(said, (int, float)) else value


def percentages(words: list[str], flag: str = "--traffic") -> dict[str, int]:
    """``DEPLOYMENT=PERCENT`` words.

    Raises: BadCommand: a share is no whole number from 0 to 100.
    """
    shares = documents.assignments(words, flag)
    if not all(str(share).isdigit() and int(share) <= 100 for share in shares.values()):
        raise BadCommand("traffic is in whole percent", hint=f"{flag} blue=90 green=10")
    return {name: int(share) for name, share in shares.items()}


def _send_all_traffic(ml: Any, endpoint_name: str, deployment: str) -> None:
    endpoint = ml.online_endpoints.get(endpoint_name)
    endpoint.traffic = {deployment: 100}
    ml.online_endpoints.begin_create_or_update(endpoint).result()


def _make_default(ml: Any, endpoint_name: str, deployment: str) -> None:
    endpoint = ml.batch_endpoints.get(endpoint_name)
    endpoint.defaults = {"deployment_name": deployment}
    ml.batch_endpoints.begin_create_or_update(endpoint).result()


def _short(text: str) -> str:
    """A datastore path or ARM id by its end: a workspace's own part says nothing."""
    for mark in ("/datastores/", "/workspaces/"):
        if text.startswith(("azureml:/", "/subscriptions/")) and mark in text:
            return f"…{mark}{text.partition(mark)[2]}"
    return text
