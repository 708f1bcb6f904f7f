"""The workspace the notebook talks to, and the others it has logged in to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from aml_magics.errors import NotLoggedIn

LOGIN_HINT = "%aml login --local, or %aml login -g RESOURCE_GROUP -w WORKSPACE --subscription ID"


class AccessToken(NamedTuple):
    """azure.core's AccessToken, without importing it."""

    token: str
    expires_on: int  # seconds since the Unix epoch


class Credential(Protocol):
    """azure.core's TokenCredential, without importing it."""

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken: ...


class Connection(NamedTuple):
    """How to reach one workspace; the same record for a local one and for one on Azure."""

    subscription: str
    resource_group: str
    workspace: str
    credential: Credential
    cloud: str
    cloud_metadata: dict[str, str]  # as MLClient takes it
    environment: dict[str, str]  # variables that make the SDK and mlflow talk to it


@dataclass
class Session:
    """A connection and what has been learnt through it."""

    connection: Connection
    api_url: str = ""  # run history and the other data-plane services
    tracking_uri: str = ""  # MLflow
    location: str = ""
    how: str = ""  # why this workspace was chosen
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.connection.workspace

    @property
    def scope(self) -> str:
        """ARM id of the workspace."""
        return (
            f"/subscriptions/{self.connection.subscription}"
            f"/resourceGroups/{self.connection.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.connection.workspace}"
        )

    @property
    def arm_url(self) -> str:
        return self.connection.cloud_metadata["resource_manager"].rstrip("/")

    def token(self) -> str:
        """A bearer token for this workspace's services."""
        return self.connection.credential.get_token(f"{self.arm_url}/.default").token


_sessions: dict[str, Session] = {}
_current: list[Session] = []
_before: dict[str, str | None] = {}


def current() -> Session:
    """The session commands run in.

    Raises: NotLoggedIn: there is none.
    """
    if not _current:
        raise NotLoggedIn("not logged in to a workspace", hint=LOGIN_HINT)
    return _current[0]


def active() -> Session | None:
    """The current session, if any."""
    return _current[0] if _current else None


def known() -> dict[str, Session]:
    """Every session by workspace name, the latest of a name only."""
    return dict(_sessions)


def use(session: Session | None) -> None:
    """Make this the current session and its variables those of the process; None logs out."""
    _restore_environment()
    _current[:] = [session] if session else []
    if session:
        _sessions[session.name] = session
        _apply_environment(session.connection.environment)


def forget(session: Session) -> None:
    """Log out of one workspace."""
    if active() is session:
        use(None)
    _sessions.pop(session.name, None)


def _apply_environment(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        _before[name] = os.environ.get(name)
        os.environ[name] = value


def _restore_environment() -> None:
    for name, value in _before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _before.clear()
