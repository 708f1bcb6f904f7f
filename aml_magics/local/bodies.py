"""What the service shows of every job and run, null where it was not given.

Source: the shapes of recorded answers. Clients read some of these keys without asking whether
they are there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import isodate

from aml_magics.local.store import Body
from aml_magics.local.wire import TENANT

USER = "local"
OBJECT_ID = "00000000-0000-0000-0000-00000000a2a3"

_JOB: Body = {
    **dict.fromkeys(("componentId", "computeId", "description", "displayName", "identity")),
    **dict.fromkeys(("inputs", "notificationSetting", "outputs", "properties")),
    **dict.fromkeys(("secretsConfiguration", "services", "tags")),
    "status": "NotStarted",
    "isArchived": False,
}
_RESOURCES: Body = {
    **dict.fromkeys(("dockerArgs", "instanceType", "locations", "properties")),
    "instanceCount": 1,
    "shmSize": "2g",
}
_OF_TYPE: dict[str, Body] = {
    "Command": {
        **dict.fromkeys(("autologgerSettings", "codeId", "distribution", "environmentId")),
        **dict.fromkeys(("limits", "parameters", "queueSettings")),
        "environmentVariables": {},
        "resources": _RESOURCES,
    },
    "Pipeline": dict.fromkeys(("jobs", "settings", "sourceJobId")),
}
_PARTS: dict[str, Body] = {
    "limits": {"timeout": None},
    "queueSettings": {"priority": None},
    "resources": _RESOURCES,
}
_INPUT: Body = {"description": None}
_OUTPUT: Body = dict.fromkeys(("description", "assetName", "assetVersion"))
_IMPORT: Body = {
    **dict.fromkeys(("autoDeleteSetting", "description", "intellectualProperty", "stage")),
    **{"tags": {}, "properties": {}, "isArchived": False, "isAnonymous": False},
}

_PERSON: Body = {
    **dict.fromkeys(("userPuId", "userIdp", "userAltSecId", "userIss", "upn")),
    "userObjectId": OBJECT_ID,
    "userTenantId": TENANT,
    "userName": USER,
}
RUN: Body = {
    **dict.fromkeys(("cancelUri", "cancelationReason", "completeUri", "compute")),
    **dict.fromkeys(("computeRequest", "createdFrom", "currentAttemptId", "currentComputeTime")),
    **dict.fromkeys(("diagnosticsUri", "effectiveStartTimeUtc", "error", "jobSpecification")),
    **dict.fromkeys(("lastStartTimeUtc", "parentRunId", "parentRunUuid", "primaryMetricName")),
    **dict.fromkeys(("queueingInfo", "retainForLifetimeOfWorkspace", "runDefinition")),
    **dict.fromkeys(("scheduleId", "scriptName", "token", "tokenExpiryTimeUtc", "warnings")),
    **{"actionUris": {}, "parameters": {}, "services": {}, "settings": {}},
    **{"inputDatasets": [], "outputDatasets": [], "uniqueChildRunComputeTargets": []},
    **{"inputs": {}, "outputs": {}, "revision": 1, "statusRevision": 1},
    **{"createdBy": _PERSON, "lastModifiedBy": _PERSON, "userId": OBJECT_ID},
}
_COST = ("CpuCoreSeconds", "CpuMemoryMegabyteSeconds", "GpuSeconds", "NodeUtilizationSeconds")
JOB_COST: Body = {f"charged{kind}": None for kind in _COST}


def job(given: Body) -> Body:
    """The properties of a job with all their keys."""
    of_type = _OF_TYPE.get(str(given.get("jobType")), {})
    body = {**_JOB, **of_type, **given}
    for field in _PARTS.keys() & of_type.keys():
        body[field] = _filled(_PARTS[field], body[field])
    for field, part in (("inputs", _INPUT), ("outputs", _OUTPUT)):
        if isinstance(body[field], dict):
            body[field] = {name: _filled(part, value) for name, value in body[field].items()}
    return body


def compute(properties: Body) -> Body:
    """What run history tells of the nodes that a job asks for."""
    resources = properties.get("resources")
    if not isinstance(resources, dict):
        return {}
    id_, nodes = properties.get("computeId"), resources.get("instanceCount")
    asked = {
        **dict.fromkeys(("vmSize", "priority", "region", "properties")),
        **{"target": (id_ or "").rpartition("/")[2] or "local", "targetType": "AmlCompute"},
        **{"armId": id_, "instanceType": resources.get("instanceType")},
        **{"instanceCount": nodes, "gpuCount": 0},
    }
    return {"compute": asked, "computeRequest": {"nodeCount": nodes, "gpuCount": 0}}


def import_(given: Body) -> Body:
    """The definition of a data import with all its keys."""
    return {**_IMPORT, **given}


def duration(properties: Body) -> str | None:
    """How long a run took, by its properties, as `HH:MM:SS.ffffff`; None before its end."""
    start, end = properties.get("StartTimeUtc"), properties.get("EndTimeUtc")
    if not start or not end:
        return None
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02}:{minutes:02}:{seconds:09.6f}"


def _filled(defaults: Body, value: Any) -> Any:
    return {**defaults, **value} if isinstance(value, dict) else value


def seconds(duration: str | None, default: float) -> float:
    """An ISO 8601 duration in seconds, or the default where none was given.

    Raises: ValueError.
    """
    if not duration:
        return default
    return float(isodate.parse_duration(duration).total_seconds())
