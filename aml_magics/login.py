"""Log in to a workspace: which one, with whose credential, and how it is reached."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from aml_magics import client, rest
from aml_magics import session as sessions
from aml_magics.errors import BadInput, NotLoggedIn, WorkspaceUnreachable
from aml_magics.records import Done, Record, Row
from aml_magics.session import AccessToken, Connection, Session

CLOUD = "AzureCloud"
# Where each of Azure's clouds answers; the keys are those of MLClient's cloud_metadata.
CLOUDS = {
    CLOUD: {"resource_manager": "https://management.azure.com/"},
    "AzureUSGovernment": {"resource_manager": "https://management.usgovcloudapi.net/"},
    "AzureChinaCloud": {"resource_manager": "https://management.chinacloudapi.cn/"},
}
# Variables that name a workspace: those of a job on Azure ML first, then those people set.
VARIABLES = {
    "subscription": ("AZUREML_ARM_SUBSCRIPTION", "AZURE_SUBSCRIPTION_ID"),
    "resource_group": ("AZUREML_ARM_RESOURCEGROUP", "AZURE_RESOURCE_GROUP"),
    "workspace": ("AZUREML_ARM_WORKSPACE_NAME", "AZUREML_WORKSPACE_NAME"),
}
CONFIG_KEYS = {
    "subscription": "subscription_id",
    "resource_group": "resource_group",
    "workspace": "workspace_name",
}


class Choice(NamedTuple):
    """A workspace on Azure and why it is the one."""

    subscription: str
    resource_group: str
    workspace: str
    why: str


class StaticCredential:
    """A credential whose token does not change, as the local workspace has."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3600)


class Login(Record):
    """The workspace a session is in and who is logged in."""

    def __init__(self, entered: Session, user: str) -> None:
        self.name = entered.name
        self.subscription = entered.connection.subscription
        self.resource_group = entered.connection.resource_group
        self.location = entered.location
        self.tracking_uri = entered.tracking_uri
        self.user = user
        self.how = entered.how

    def _title(self) -> str:
        return f"Workspace {self.name}"

    def _rows(self) -> list[Row]:
        return [
            ("resource group", self.resource_group),
            ("subscription", self.subscription),
            ("location", self.location),
            ("user", self.user),
            ("MLflow", self.tracking_uri),
            ("chosen", self.how),
        ]


def login(
    *,
    local: bool = False,
    workspace_name: str = "",
    resource_group: str = "",
    subscription: str = "",
    tenant: str = "",
) -> Login:
    """Enter a workspace: local, named by flags, or found in config.json or the environment.

    Raises: BadInput: flags that do not name one workspace. NotLoggedIn, WorkspaceUnreachable,
        NotFound: as the workspace answers.
    """
    named = {
        "subscription": subscription,
        "resource_group": resource_group,
        "workspace": workspace_name,
    }
    if local:
        return enter(local_connection(**named), "--local")
    choice = choose(named)
    if choice is None:
        why = "no flags, config.json or environment variables name one on Azure: local"
        return enter(local_connection(), why)
    return enter(azure_connection(choice, tenant), choice.why)


def enter(connection: Connection, how: str) -> Login:
    """Make the connection's workspace the current one, having asked it who it is."""
    before = sessions.active()
    entered = Session(connection, how=how)
    sessions.use(entered)
    try:
        _learn(entered)
    except Exception:
        sessions.forget(entered)
        sessions.use(before)
        raise
    sessions.use(entered)  # once more: it knows its tracking URI now
    client.warm()  # not before: the credential has its own imports of Azure's packages to do
    return whoami(entered)


def whoami(session: Session) -> Login:
    """The workspace commands run in."""
    return Login(session, user_of(session.token()))


def use(*, workspace_name: str) -> Login:
    """Return to a workspace logged in to before.

    Raises: NotLoggedIn: there is none of that name.
    """
    known = sessions.known()
    if workspace_name not in known:
        names = ", ".join(known) or "none"
        raise NotLoggedIn(
            f"not logged in to '{workspace_name}'", hint=f"known: {names}; %aml login"
        )
    sessions.use(known[workspace_name])
    return whoami(sessions.current())


def logout(session: Session) -> Done:
    """Leave the workspace; variables of the process return to what they were."""
    sessions.forget(session)
    return Done(f"left workspace {session.name}")


def local_connection(
    subscription: str = "", resource_group: str = "", workspace: str = ""
) -> Connection:
    """The connection to a workspace on this machine, whose daemon is started where needed.

    Raises: WorkspaceUnreachable: the daemon does not start.
    """
    from aml_magics.local import daemon

    subscription = subscription or daemon.DEFAULT_SUBSCRIPTION
    resource_group = resource_group or daemon.DEFAULT_RESOURCE_GROUP
    workspace = workspace or daemon.DEFAULT_WORKSPACE
    try:
        door = daemon.door(daemon.ensure(), subscription, resource_group, workspace)
    except daemon.DaemonError as exc:
        raise WorkspaceUnreachable(str(exc), exc.hint) from exc
    return Connection(
        subscription,
        resource_group,
        workspace,
        StaticCredential(door.token),
        door.cloud,
        door.cloud_metadata,
        door.environment,
    )


def azure_connection(choice: Choice, tenant: str = "") -> Connection:
    """The connection to a workspace on Azure, with DefaultAzureCredential."""
    cloud = os.environ.get("AZUREML_CURRENT_CLOUD", CLOUD)
    cloud = cloud if cloud in CLOUDS else CLOUD
    return Connection(
        choice.subscription,
        choice.resource_group,
        choice.workspace,
        client.DefaultCredential(tenant),
        cloud,
        CLOUDS[cloud],
        {"AZUREML_CURRENT_CLOUD": cloud},
    )


def choose(named: dict[str, str]) -> Choice | None:
    """The workspace on Azure that flags, a config.json or variables name, in that order.

    Raises: BadInput: some of its three parts are missing.
    """
    config, path = find_config(Path.cwd())
    given = "flags" if any(named.values()) else ""
    found: dict[str, str] = {}
    for part, variables in VARIABLES.items():
        variable = next((v for v in variables if os.environ.get(v)), "")
        from_config = config.get(CONFIG_KEYS[part], "")
        found[part] = named[part] or from_config or os.environ.get(variable, "")
    if not found["workspace"]:
        if given:
            raise BadInput("which workspace?", "%aml login -g GROUP -w WORKSPACE --subscription ID")
        return None
    missing = [part.replace("_", " ") for part, value in found.items() if not value]
    if missing:
        raise BadInput(
            f"no {' and no '.join(missing)} for workspace '{found['workspace']}'",
            "%aml login -g GROUP -w WORKSPACE --subscription ID",
        )
    return Choice(**found, why=given or path or "environment variables")


def find_config(folder: Path) -> tuple[dict[str, str], str]:
    """The nearest config.json going up from a folder, as MLClient.from_config finds it.

    Returns: its content and a name to show for it; empty when there is none.
    """
    for parent in (folder, *folder.parents):
        for name in ("config.json", ".azureml/config.json"):
            content = _workspace_config(parent / name)
            if content:
                return content, name if parent == folder else f"{name} in a folder above"
    return {}, ""


def _workspace_config(path: Path) -> dict[str, str]:
    """A config.json's content when it names a workspace."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and "workspace_name" in content else {}


def _learn(entered: Session) -> None:
    """Ask the workspace for the addresses of its services."""
    workspace = rest.arm(entered, "GET")
    facts = workspace.get("properties", {})
    services = rest.raw(entered, "GET", facts["discoveryUrl"]).json()
    entered.location = workspace.get("location", "")
    entered.api_url = services["api"].rstrip("/")
    entered.tracking_uri = facts["mlFlowTrackingUri"]
    entered.connection.environment.setdefault("MLFLOW_TRACKING_URI", entered.tracking_uri)


def user_of(token: str) -> str:
    """Who a token is of, as far as it says; empty for an opaque one."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return ""
    names = ("upn", "unique_name", "preferred_username", "name", "appid", "oid")
    return next((str(claims[n]) for n in names if claims.get(n)), "")
