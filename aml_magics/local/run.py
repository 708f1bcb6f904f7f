"""The environment of ``aml-local run``: programs made for Azure find the local workspace instead.

Their resolver leads Azure's host names to the daemon's TLS port, they trust its certificates, and
``DefaultAzureCredential`` gets its tokens from it. Holds for Python programs; others ignore the
resolver hook and would ask the real hosts (without a credential).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from aml_magics.local import files, tls
from aml_magics.local.daemon import (
    CLIENT_TOKEN_SECONDS,
    DEFAULT_RESOURCE_GROUP,
    DEFAULT_SUBSCRIPTION,
    DEFAULT_WORKSPACE,
    Address,
)
from aml_magics.local.doors import CLOUD_HOSTS
from aml_magics.local.identity import CLIENT, NO_WORKSPACE, OBO_SECRET, issue
from aml_magics.local.wire import TENANT

HOOK = Path(__file__).with_name("hook")

# What a program must not see there: the user's own ways into Azure, a choice of credential that
# leaves ours out, a proxy that would carry Azure's hosts away.
REMOVED = re.compile(
    r"AZURE_(CLIENT|TENANT|USERNAME|PASSWORD|FEDERATED|AUTHORITY|TOKEN|POD|KUBERNETES|REGIONAL)\w*"
    r"|(ARM|IDENTITY|IMDS|MSI)_\w+"
    r"|(HTTPS?|ALL)_PROXY",
    re.IGNORECASE,
)
# Names for programs that read them; they keep their own.
DEFAULTS = {
    "AZURE_SUBSCRIPTION_ID": DEFAULT_SUBSCRIPTION,
    "AZUREML_ARM_SUBSCRIPTION": DEFAULT_SUBSCRIPTION,
    "AZUREML_ARM_RESOURCEGROUP": DEFAULT_RESOURCE_GROUP,
    "AZUREML_ARM_WORKSPACE_NAME": DEFAULT_WORKSPACE,
}


def environment(address: Address, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment of a program, from the inherited one (default: this one)."""
    inherited = os.environ if inherited is None else inherited
    kept = {name: value for name, value in inherited.items() if not REMOVED.fullmatch(name)}
    path = [str(HOOK), *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **DEFAULTS,
        **kept,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "AML_LOCAL_HOME": str(address.home),
        "AML_LOCAL_CLOUD_HOSTS": " ".join(re.sub(r"\{\w+\}", "*", host) for host, _ in CLOUD_HOSTS),
        "AML_LOCAL_TLS_PORT": address.secure_url.rpartition(":")[2],
        "AZUREML_CURRENT_CLOUD": "AzureCloud",
        **_trust(address),
        **_identity(address, is_strict=kept.get("AML_LOCAL_STRICT") == "1"),
    }


def _trust(address: Address) -> dict[str, str]:
    names = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
    return dict.fromkeys(names, str(tls.bundle(address.home)))


def _identity(address: Address, is_strict: bool) -> dict[str, str]:
    """Settings of two identities, since programs leave out one or the other.

    ``azureml-mlflow`` asks for no managed identity, a ``ManagedIdentityCredential`` for no other.
    """
    secret, file = address.token, "token"
    if is_strict:  # of this program alone, whatever the daemon is
        secret = issue("run", secret, CLIENT_TOKEN_SECONDS, NO_WORKSPACE)
        file = "token-strict"
    assertion = address.home / file
    files.write_atomically(assertion, secret.encode())
    return {
        "IDENTITY_ENDPOINT": f"{address.url}/msi/token",
        "IDENTITY_HEADER": secret,
        "OBO_ENDPOINT": f"{address.url}/msi/token?{OBO_SECRET}={secret}",
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_FEDERATED_TOKEN_FILE": str(assertion),
        "AZURE_CONFIG_DIR": str(address.home / "az"),  # where az finds no login
    }
