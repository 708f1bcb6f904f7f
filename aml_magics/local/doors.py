"""The two doors to the server, and the hosts that lead through them.

*direct*: the loopback ports themselves, as the magics use them.
*cloud*: Azure's own host names, as programs under ``aml-local run`` use them.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

REGION = "eastus"

# Azure's host name → where its paths begin in this server. ARM and the workspace services keep
# their paths: they do not collide.
CLOUD_HOSTS = (
    ("management.azure.com", ""),
    ("{region}.api.azureml.ms", ""),
    ("{region}.experiments.azureml.net", ""),
    ("login.microsoftonline.com", "/login"),
    ("login.microsoft.com", "/login"),
    ("login.windows.net", "/login"),
    ("sts.windows.net", "/login"),
    ("{account}.blob.core.windows.net", "/blob/{account}"),
    ("{account}.dfs.core.windows.net", "/dfs/{account}"),
    ("{account}.file.core.windows.net", "/file/{account}"),
    (f"{{endpoint}}.{REGION}.inference.ml.azure.com", "/inference/-/{endpoint}"),
    ("ml.azure.com", "/studio"),
    ("azuremlschemas.azureedge.net", "/schemas"),
    ("azuremlschemasprod.azureedge.net", "/schemas"),
)
LOOPBACK_HOSTS = ("127.0.0.1", "localhost")

_PATTERNS = tuple(
    (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^.]+)", re.escape(host))), prefix)
    for host, prefix in CLOUD_HOSTS
)


class Door(NamedTuple):
    """Makes the URLs that a client of one door can follow; the fields are their templates."""

    name: str
    arm: str
    api: str
    blob_template: str
    scoring_template: str
    mlflow_template: str
    studio_template: str

    def blob(self, account: str) -> str:
        """Root of a storage account, without a slash at the end."""
        return self.blob_template.format(account=account)

    def scoring(self, account: str, endpoint: str) -> str:
        """URL that an online endpoint of the workspace with that account is scored at."""
        return self.scoring_template.format(account=account, endpoint=endpoint)

    def mlflow(self, scope: str) -> str:
        """Tracking URI of the workspace with the ARM id ``scope``."""
        return self.mlflow_template.format(scope=scope)

    def studio(self, job: str, scope: str) -> str:
        """Page of a job in the workspace with the ARM id ``scope``."""
        workspace = scope.replace("/providers/Microsoft.MachineLearningServices", "")
        return self.studio_template.format(job=job, scope=workspace)


CLOUD = Door(
    name="cloud",
    arm="https://management.azure.com",
    api=f"https://{REGION}.api.azureml.ms",
    blob_template="https://{account}.blob.core.windows.net",
    scoring_template=f"https://{{endpoint}}.{REGION}.inference.ml.azure.com/score",
    mlflow_template=f"azureml://{REGION}.api.azureml.ms/mlflow/v1.0{{scope}}",
    studio_template="https://ml.azure.com/runs/{job}?wsid={scope}",
)


def direct(url: str, secure_url: str) -> Door:
    """Make the door of the loopback ports.

    Args: url, secure_url: ``http://127.0.0.1:PORT`` and ``https://127.0.0.1:PORT``.
    """
    return Door(
        name="direct",
        arm=secure_url,
        api=secure_url,
        # azure-storage-blob finds the account in what it takes for the host: the user part here.
        blob_template=(
            "https://{account}.blob.core.windows.net@"
            f"{secure_url.removeprefix('https://')}/blob/{{account}}"
        ),
        scoring_template=f"{url}/inference/{{account}}/{{endpoint}}/score",
        mlflow_template=f"{url}/mlflow/v1.0{{scope}}",
        studio_template=f"{url}/studio/runs/{{job}}?wsid={{scope}}",
    )


def direct_cloud(url: str, secure_url: str, account: str) -> tuple[str, dict[str, str]]:
    """Name and endpoints of the "cloud" that the SDK takes one workspace of this server for.

    The SDK remembers them by name for the life of a process, hence a name for each workspace.
    """
    netloc = secure_url.removeprefix("https://")
    return f"aml-local-{netloc.rpartition(':')[2]}-{account}", {
        "azure_portal": f"{url}/",
        "resource_manager": f"{secure_url}/",
        "active_directory": f"{secure_url}/login/",
        "aml_resource_id": f"{secure_url}/",
        "storage_endpoint": f"core.windows.net@{netloc}/blob/{account}",
        "registry_discovery_endpoint": f"{secure_url}/",
    }


def account_name(subscription: str, resource_group: str, workspace: str) -> str:
    """Storage account of a workspace: 24 characters, the same for any spelling of the names."""
    triple = "/".join((subscription, resource_group, workspace)).lower()
    return "aml" + hashlib.sha256(triple.encode()).hexdigest()[:21]


def cloud_prefix(host: str) -> str | None:
    """Where the paths of a host of Azure begin here, or None for any other host."""
    for pattern, prefix in _PATTERNS:
        if match := pattern.fullmatch(host):
            return prefix.format(**match.groupdict())
    return None


def through_doors(app: ASGIApp, direct_door: Door) -> ASGIApp:
    """Wrap ``app`` so that every request names its door and lies in one space of paths.

    Adds ``aml.door`` and ``aml.raw_path`` (the path as the client sent and signed it) to the
    scope. Any other host is refused: a page of the web must not reach this server by a name of
    its own that resolves to 127.0.0.1.
    """

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        host = _host(scope)
        prefix = _direct_prefix(scope) if host in LOOPBACK_HOSTS else cloud_prefix(host)
        if prefix is None:
            await _misdirected(host)(scope, receive, send)
            return
        door = direct_door if host in LOOPBACK_HOSTS else CLOUD
        await app(_placed(scope, door, prefix), receive, send)

    return front


def _host(scope: Scope) -> str:
    return _header(scope, b"host").rpartition("@")[2].partition(":")[0].lower()


def _direct_prefix(scope: Scope) -> str:
    """Where the paths of a loopback port begin: azure-storage-file-share leaves out what follows
    the port in the URL of an account, whose name only the signature has then.
    """
    scheme, _, signed = _header(scope, b"authorization").partition(" ")
    is_share = scheme == "SharedKey" and not scope["path"].startswith(("/blob/", "/dfs/"))
    account = re.match(r"\w+(?=:)", signed)
    return f"/file/{account[0]}" if is_share and account else ""


def _header(scope: Scope, wanted: bytes) -> str:
    value: bytes = next((value for name, value in scope["headers"] if name == wanted), b"")
    return value.decode("latin-1")


def _placed(scope: Scope, door: Door, prefix: str) -> Scope:
    return {
        **scope,
        "path": prefix + scope["path"],
        "raw_path": prefix.encode() + scope["raw_path"],
        "aml.door": door,
        "aml.raw_path": scope["raw_path"],
    }


def _misdirected(host: str) -> JSONResponse:
    message = f"The local workspace does not answer for the host {host!r}."
    return JSONResponse({"error": {"code": "InvalidHost", "message": message}}, 421)
