"""A private certificate authority for one home: trusted only where its bundle is named."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import time
from pathlib import Path

from aml_magics.local import files
from aml_magics.local.doors import CLOUD_HOSTS, LOOPBACK_HOSTS

VALID_DAYS = 800  # the longest that all platforms take is 825
RENEW_DAYS = 400
IDENTITIES = (*LOOPBACK_HOSTS, *(re.sub(r"\{\w+\}", "*", host) for host, _ in CLOUD_HOSTS))


def certificate(home: Path) -> Path:
    """Server key and certificate in one PEM file, made when missing or past half of its life."""
    digest = hashlib.sha256(" ".join(IDENTITIES).encode()).hexdigest()[:8]
    path = _folder(home) / f"server-{digest}.pem"
    with files.locked(path.parent / ".lock"):
        if not path.exists() or time.time() - path.stat().st_mtime > RENEW_DAYS * 86400:
            _issue(path)
    return path


def bundle(home: Path) -> Path:
    """Certificates for a client of this home: those it trusts already and this authority's."""
    certificate(home)
    folder = _folder(home)
    known = _trusted()
    authority = (folder / "ca.pem").read_bytes()
    content = known if authority in known else known.rstrip() + b"\n" + authority
    path = folder / f"bundle-{hashlib.sha256(content).hexdigest()[:8]}.pem"
    if not path.exists():
        files.write_atomically(path, content, mode=0o644)
    return path


def _trusted() -> bytes:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        path = Path(os.environ.get(name) or os.devnull)
        if path.is_file():
            return path.read_bytes()
    import certifi

    return Path(certifi.where()).read_bytes()


def _folder(home: Path) -> Path:
    folder = home / "tls"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _issue(path: Path) -> None:
    import trustme

    key, cert = path.parent / "ca.key", path.parent / "ca.pem"
    if key.exists() and cert.exists():
        authority = trustme.CA.from_pem(cert.read_bytes(), key.read_bytes())
    else:
        authority = trustme.CA(organization_name="aml-magics local workspace")
        files.write_atomically(key, authority.private_key_pem.bytes())
        files.write_atomically(cert, authority.cert_pem.bytes(), mode=0o644)
    expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=VALID_DAYS)
    server = authority.issue_cert(*IDENTITIES, not_after=expiry)
    files.write_atomically(path, server.private_key_and_cert_chain_pem.bytes())
