"""What can go wrong, each with a next step.

AmlError                     shown without a traceback, in at most five lines
├── BadCommand               the line typed cannot be understood
├── BadInput                 a file, YAML or value given cannot be used
├── NotSupported             what `az ml` or Azure has, and this or the local workspace has not
├── NotLoggedIn              no workspace, or one that refuses the credential
├── NotFound                 the workspace has nothing of that name
├── Refused                  the workspace understood the request and declined it
├── WorkspaceUnreachable     nobody answers at the workspace's address
├── MissingPackage           a package this command needs is not installed
├── Interrupted              the command was interrupted, and has stopped
├── Detached                 the wait was interrupted; the job goes on
├── JobFailed                a job ended otherwise than completed
└── DeploymentFailed         a deployment did not become ready
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

MAX_LINES = 5
MAX_WIDTH = 400


class AmlError(Exception):
    """A failure with a next step; IPython prints it without a traceback.

    Args:
        message: what happened.
        hint: what to type next.
        detail: more lines, oldest first; as many of the last ones are shown as there is room for.
        result: the record the command would have returned, so that it can still be bound.
    """

    def __init__(
        self, message: str, hint: str = "", *, detail: list[str] | None = None, result: Any = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.detail = detail or []
        self.result = result

    def _render_traceback_(self) -> list[str]:
        first, *rest = str(self).splitlines() or [""]
        lines = [f"{type(self).__name__}: {first}", *rest]
        lines = lines[: MAX_LINES - bool(self.hint)]
        room = MAX_LINES - bool(self.hint) - len(lines)
        lines += [f"  | {line}" for line in self.detail[-room:]] if room else []
        lines += [f"hint: {self.hint}"] if self.hint else []
        return [line if len(line) <= MAX_WIDTH else line[:MAX_WIDTH] + " …" for line in lines]


class BadCommand(AmlError):
    """The line typed cannot be understood."""


class BadInput(AmlError):
    """A file, YAML or value given cannot be used."""


class NotSupported(AmlError):
    """What ``az ml`` or Azure has, and this package or the local workspace has not."""


class NotLoggedIn(AmlError):
    """No workspace, or one that refuses the credential."""


class NotFound(AmlError):
    """The workspace has nothing of that name."""


class Refused(AmlError):
    """The workspace understood the request and declined it."""


class WorkspaceUnreachable(AmlError):
    """Nobody answers at the workspace's address."""


class MissingPackage(AmlError):
    """A package this command needs is not installed."""


class Interrupted(AmlError):
    """The command was interrupted, and has stopped."""


class Detached(AmlError):
    """The wait was interrupted; the job goes on."""


class JobFailed(AmlError):
    """A job ended otherwise than completed; ``detail`` holds the last lines of its log."""


class DeploymentFailed(AmlError):
    """A deployment did not become ready; ``detail`` holds the last lines of its log."""


def did_you_mean(word: str, known: Iterable[str], before: str = "") -> str:
    """A hint with the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{f'{before} {near[0]}'.strip()}'?" if near else ""
