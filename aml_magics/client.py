"""The Azure ML SDK: the only module that imports azure.ai.ml, and only when it is needed."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import MethodType, ModuleType
from typing import Any

from aml_magics import __version__, validation
from aml_magics.errors import (
    AmlError,
    BadInput,
    MissingPackage,
    NotFound,
    NotLoggedIn,
    Refused,
    WorkspaceUnreachable,
)
from aml_magics.quiet import quiet
from aml_magics.rest import RECONNECT_HINT, refusal
from aml_magics.session import AccessToken, Session

# Classes of the SDK and the libraries below it → ours.
ERRORS: dict[str, type[AmlError]] = {
    "ClientAuthenticationError": NotLoggedIn,
    "ResourceNotFoundError": NotFound,
    "ValidationError": BadInput,
    "ValidationException": BadInput,
    "YAMLError": BadInput,
    "ValueError": BadInput,
}
NO_ANSWER = frozenset({"ServiceRequestError", "ServiceResponseError", "ConnectionError"})
NO_CLOUD = "Unknown cloud environment"  # the SDK got no answer when it asked
HINTS: dict[type[AmlError], str] = {NotLoggedIn: "`az login` in a terminal, then %aml login"}
_IMPORTING = threading.RLock()


def warm() -> None:
    """Begin importing the SDK (seconds) while the person reads and types."""
    if "azure.ai.ml" in sys.modules:
        return
    threading.Thread(target=_import_ahead, name="aml-warm", daemon=True).start()


def _import_ahead() -> None:
    with contextlib.suppress(Exception):  # told to who needs it
        _imported("azure.ai.ml")


def sdk() -> ModuleType:
    """``azure.ai.ml``, waiting for its import where that is still going on.

    Raises: MissingPackage: it is not installed.
    """
    try:
        return _imported("azure.ai.ml")
    except ModuleNotFoundError as exc:
        if exc.name and not "azure.ai.ml".startswith(exc.name):
            raise  # it is installed; one of its own imports is not
        raise MissingPackage(
            "this command needs azure-ai-ml", "%pip install azure-ai-ml, then restart the kernel"
        ) from exc


def loader(name: str) -> Any:
    """A `load_…` function of the SDK, which does not export all of them at its top."""
    functions = sdk() if hasattr(sdk(), name) else _imported("azure.ai.ml.entities._load_functions")
    return getattr(functions, name)


def begun(begin: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The poller of what takes long, which prints no dots, also after nobody waits for it."""
    from azure.ai.ml._utils._azureml_polling import AzureMLPolling
    from azure.mgmt.core.polling.arm_polling import ARMPolling

    dotted = AzureMLPolling.update_status
    AzureMLPolling.update_status = ARMPolling.update_status  # its first look may be under way
    try:
        poller = begin(*args, **options)
        method = poller.polling_method()
        method.update_status = MethodType(ARMPolling.update_status, method)
        return poller
    finally:
        AzureMLPolling.update_status = dotted


def _imported(name: str) -> ModuleType:
    # Azure's packages import each other in circles: two threads at once meet halfway and fail.
    with _IMPORTING:
        before = set(sys.modules)
        try:
            return import_module(name)
        except Exception:  # it asks the workspace for its cloud; halves are of no use later
            for half in set(sys.modules) - before:
                if half.startswith("azure.ai.ml"):
                    del sys.modules[half]
            raise


class DefaultCredential:
    """azure-identity's DefaultAzureCredential, silent, its exceptions turned into ours.

    Args: tenant: the tenant whose tokens are wanted; the account's own when empty.
    """

    def __init__(self, tenant: str = "") -> None:
        tenants = {"additionally_allowed_tenants": [tenant]} if tenant else {}
        self._chosen = {"tenant_id": tenant} if tenant else {}
        self._credential = _imported("azure.identity").DefaultAzureCredential(**tenants)

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        """A token, as azure.core's TokenCredential gives it.

        Raises: NotLoggedIn: no credential of this machine works.
        """
        with quiet(), translating():
            found = self._credential.get_token(*scopes, **{**self._chosen, **kwargs})
            return AccessToken(found.token, found.expires_on)


@contextmanager
def calling(
    session: Session, hint: str = "", registry_name: str = "", feature_store_name: str = ""
) -> Iterator[Any]:
    """The session's MLClient, silent, its exceptions turned into ours.

    Args: hint: what to type when something is not found. registry_name, feature_store_name: where
        to look instead of the session's workspace.
    """
    with quiet(), translating(hint):
        yield _client(session, registry_name, feature_store_name)


@contextmanager
def translating(hint: str = "") -> Iterator[None]:
    """Turn what the SDK raises into AmlError."""
    try:
        yield
    except AmlError:
        raise
    except Exception as exc:
        error = _translated(exc)
        if isinstance(error, NotFound):
            error.hint = error.hint or hint
        raise error from exc


def _client(session: Session, registry: str, feature_store: str) -> Any:
    key = f"ml {registry or feature_store}" if registry or feature_store else "ml"
    if key not in session.cache:
        connection = session.connection
        workspace = None if registry else feature_store or connection.workspace
        session.cache[key] = sdk().MLClient(
            connection.credential,
            connection.subscription,
            connection.resource_group,
            workspace,
            registry_name=registry or None,
            cloud=connection.cloud,
            cloud_metadata=connection.cloud_metadata,
            user_agent=f"aml-magics/{__version__}",
            show_progress=False,
            enable_telemetry=False,
        )
    return session.cache[key]


def _translated(exc: BaseException) -> AmlError:
    """Our error for one of the SDK's, by class name so that nothing is imported to look."""
    names = [cls.__name__ for cls in type(exc).__mro__]
    if NO_ANSWER & {type(link).__name__ for link in _chain(exc)}:
        return WorkspaceUnreachable("the workspace does not answer", RECONNECT_HINT)
    if names[0] == "MlException" and exc.__context__ is not None:
        return _translated(exc.__context__)  # a page of advice around what happened
    text = _text(exc)
    if NO_CLOUD in text:
        return WorkspaceUnreachable("the workspace does not say which cloud it is", RECONNECT_HINT)
    if getattr(exc, "status_code", None):
        return refusal(exc.status_code, text)  # type: ignore[attr-defined]
    if "RESOURCE" in f"{getattr(exc, 'error_type', '')}{getattr(exc, 'error_code', '')}":
        return NotFound(text.removeprefix("RESOURCE_DOES_NOT_EXIST: "))
    make = next((ERRORS[name] for name in names if name in ERRORS), Refused)
    hint = validation.reference(str(exc)) if make is BadInput else HINTS.get(make, "")
    return make(text or names[0], hint)


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception and those it came from."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _text(exc: BaseException) -> str:
    """What an exception says, in at most four lines."""
    cause = exc.__cause__
    if cause is not None and type(cause).__module__.startswith("yaml"):
        return f"the YAML does not parse: {yaml_problem(cause)}"
    error = getattr(exc, "error", None)
    inner = getattr(error, "message", None)
    return validation.summary(str(inner or getattr(exc, "message", None) or exc))


def yaml_problem(exc: BaseException) -> str:
    """Where a YAML document stops making sense, in one line."""
    mark = getattr(exc, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{getattr(exc, 'problem', None) or exc}"
