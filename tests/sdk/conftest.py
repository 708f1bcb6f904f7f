"""Requests past the SDK, for what it would never send."""

from __future__ import annotations

import pytest
import requests


@pytest.fixture
def arm(address, connection):
    """Send a request to ARM; a path that begins with `./` is inside the workspace."""
    scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]

    def send(verb, path, body=None, **headers):
        url = address.url + (scope + path[1:] if path.startswith(".") else path)
        headers = {"Authorization": f"Bearer {connection.token}", **headers}
        options = {"data" if isinstance(body, bytes) else "json": body}
        return requests.request(verb, url, headers=headers, timeout=30, **options)

    return send
