"""Links for people: the workspace's and its jobs' pages are MLflow's."""

from __future__ import annotations

import re

from starlette.responses import RedirectResponse, Response

from aml_magics.local.daemon import DEFAULT_RESOURCE_GROUP, DEFAULT_SUBSCRIPTION, DEFAULT_WORKSPACE
from aml_magics.local.daemon import workspace_id as id_of
from aml_magics.local.wire import ArmError, Call, not_found

_WSID = re.compile(
    r"/subscriptions/([^/]+)/resourcegroups/([^/]+)(?:/providers/[^/]+)?/workspaces/([^/]+)",
    re.IGNORECASE,
)


def default_workspace(call: Call) -> Response:
    """Lead from ``/`` to the page of the default workspace."""
    return _to(call, id_of(DEFAULT_SUBSCRIPTION, DEFAULT_RESOURCE_GROUP, DEFAULT_WORKSPACE))


def run(call: Call) -> Response:
    """Lead from a job's studio link to the page of its run."""
    match = _WSID.fullmatch(call.query.get("wsid", ""))
    if match is None:
        raise ArmError(400, "UserError", "The link names no workspace (wsid).")
    workspace, job = id_of(*match.groups()), call.path["job"]
    experiment = call.local.store.noted(f"{workspace}/jobs/{job}", "experiment")
    if experiment is None:
        raise not_found(f"Job {job} not found.")
    return _to(call, workspace, f"#/experiments/{experiment}/runs/{job}")


def _to(call: Call, workspace: str, place: str = "") -> Response:
    return RedirectResponse(f"{call.local.address.url}/mlflow/v1.0{workspace}/{place}", 302)
