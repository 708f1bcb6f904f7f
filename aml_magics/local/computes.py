"""Computes: names for this machine. What runs, runs here, whatever a compute says it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm
from aml_magics.local.bodies import OBJECT_ID
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import REGION, TENANT, Call, bad_request, check_name, not_found

KIND = "computes"
TYPES: dict[str, Body] = {
    "AmlCompute": {
        "vmSize": "LOCAL",
        "vmPriority": "Dedicated",
        "subnet": None,
        "currentNodeCount": 0,
        "targetNodeCount": 0,
        "nodeStateCounts": dict.fromkeys(
            (
                "preparingNodeCount",
                "runningNodeCount",
                "idleNodeCount",
                "unusableNodeCount",
                "leavingNodeCount",
                "preemptedNodeCount",
            ),
            0,
        ),
        "allocationState": "Steady",
        "allocationStateTransitionTime": None,
        "errors": None,
        "remoteLoginPortPublicAccess": "NotSpecified",
        "osType": "Linux",
        "virtualMachineImage": None,
        "isolatedNetwork": False,
        "propertyBag": {},
    },
    "ComputeInstance": {
        **dict.fromkeys(
            (
                *("subnet", "sshSettings", "autologgerSettings", "connectivityEndpoints"),
                *("lastOperation", "applicationSharingPolicy", "personalComputeInstanceSettings"),
                *("setupScripts", "dataMounts", "dataDisks", "containers", "updateStatus"),
                *("versions", "customServices", "osImageMetadata"),
            )
        ),
        "state": "Running",
        "applications": [],
        "errors": [],
        "computeInstanceAuthorizationType": "personal",
        "createdBy": {"userOrgId": TENANT, "userId": OBJECT_ID},
    },
    "VirtualMachine": {},
    "Kubernetes": {},
    "SynapseSpark": {},
    "AKS": {},
    "HDInsight": {},
    "DataFactory": {},
    "Databricks": {},
    "DataLakeAnalytics": {},
}
ATTACHED = {*TYPES} - {"AmlCompute", "ComputeInstance"}
SECRETS = ("adminUserPassword", "password", "privateKeyData")
# What a compute instance is after each of its operations.
STATES = {"start": "Running", "stop": "Stopped", "restart": "Running"}
SIZE = "LOCAL"


def get(call: Call) -> Response:
    """Any compute name is a virtual cluster on this machine; 404 when strict, as on Azure."""
    store = call.local.store
    resource = store.get(call.arm_id)
    if resource is None:
        if call.local.strict or store.noted(call.arm_id, "deleted"):
            return Response(status_code=404)
        resource, _ = store.put(call.arm_id, KIND, _virtual_cluster(call.local.slots))
    return JSONResponse(_shown(resource))


def list_(call: Call) -> Response:
    kinds = call.query.get("computetype", "").lower()
    body = arm.page(call, call.workspace.id, KIND, lambda row: _is(row, kinds))
    body["value"] = [{"location": REGION, "tags": {}, **row} for row in body["value"]]
    return JSONResponse(body)


def put(call: Call) -> Response:
    """Create, attach or resize a compute; it is ready at once."""
    check_name(call.path["name"])
    store, body = call.local.store, _asked(call)
    resource, created = store.put(call.arm_id, KIND, body)
    store.forget(call.arm_id, "deleted")
    return JSONResponse(_shown(resource), 201 if created else 200, _operation(call, call.arm_id))


def patch(call: Call) -> Response:
    """Change the scale of a cluster."""
    resource, asked = _found(call, call.arm_id), call.document().get("properties") or {}
    changes = asked.get("properties") if isinstance(asked, dict) else None
    if not isinstance(changes, dict):
        raise bad_request("A compute is changed by its properties.properties.")

    def change(properties: Body) -> None:
        properties["properties"] = {**properties["properties"], **changes}

    store = call.local.store
    return JSONResponse(_shown(store.update(resource.id, change) or resource))


def delete(call: Call) -> Response:
    """Delete or detach: the same here. A deleted name is not made again by being asked for."""
    store = call.local.store
    if not store.delete(call.arm_id):
        return Response(status_code=204)
    store.note(call.arm_id, "deleted", True)
    return Response(status_code=202, headers=_operation(call, call.arm_id))


def act(call: Call) -> Response:
    """Start, stop or restart a compute instance."""
    id_, action = call.arm_id.rpartition("/")[0], call.path["action"].lower()
    if _found(call, id_).properties["computeType"] != "ComputeInstance":
        raise bad_request(f"Only a compute instance can {action}.")
    time = datetime.now(UTC).isoformat()

    def change(properties: Body) -> None:
        last = {"operationName": action.capitalize(), "operationTime": time}
        last["operationStatus"] = "Succeeded"
        properties["properties"].update(state=STATES[action], lastOperation=last)

    call.local.store.update(id_, change)
    return Response(status_code=202, headers=_operation(call, id_))


def list_nodes(call: Call) -> Response:
    """No node is held: jobs are processes of this machine, and none when idle."""
    _found(call, call.arm_id.rpartition("/")[0])
    return JSONResponse({"nodes": []})


def list_sizes(call: Call) -> Response:
    """One size: this machine."""
    size = {
        "name": SIZE,
        "family": "local",
        "vCPUs": call.local.slots,
        "gpus": 0,
        "lowPriorityCapable": False,
        "premiumIO": False,
        "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        "estimatedVMPrices": {
            "billingCurrency": "USD",
            "unitOfMeasure": "OneHour",
            "values": [{"retailPrice": 0.0, "osType": "Linux", "vmTier": "Standard"}],
        },
    }
    return JSONResponse({"value": [size]})


def list_usages(call: Call) -> Response:
    name = {"value": "Cores", "localizedValue": "Cores of this machine"}
    usage = {"id": None, "type": None, "unit": "Count", "name": name}
    live = call.local.live()["jobs"]
    return JSONResponse({"value": [{**usage, "currentValue": live, "limit": call.local.slots}]})


def operation(call: Call) -> Response:
    arm.operation(call)
    return JSONResponse({"status": "Succeeded", "percentComplete": 100.0})


def _asked(call: Call) -> Body:
    document = call.document()
    asked: Any = document.get("properties")
    if not isinstance(asked, dict) or str(asked.get("computeType")) not in TYPES:
        raise bad_request(f"computeType is none of {', '.join(TYPES)}.")
    if not isinstance(asked.get("properties") or {}, dict):
        raise bad_request("The properties of a compute are a mapping.")
    identity = document.get("identity")
    principal = {"principalId": call.workspace.guid, "tenantId": TENANT}
    return {
        "location": document.get("location") or REGION,
        "tags": document.get("tags") or {},
        **({"identity": {**principal, **identity}} if isinstance(identity, dict) else {}),
        "properties": _properties(asked),
    }


def _properties(asked: Body) -> Body:
    kind, time = asked["computeType"], datetime.now(UTC).isoformat()
    given = {key: value for key, value in asked.items() if value is not None}
    return {
        "createdOn": time,
        "modifiedOn": time,
        "disableLocalAuth": False,
        "description": None,
        "resourceId": None,
        "computeLocation": REGION,
        **given,
        "provisioningState": "Succeeded",
        "provisioningErrors": None,
        "isAttachedCompute": kind in ATTACHED,
        "properties": {**TYPES[kind], **_without_secrets(asked.get("properties") or {})},
    }


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if k not in SECRETS}
    return value


def _virtual_cluster(slots: int) -> Body:
    scale = {"minNodeCount": 0, "maxNodeCount": slots, "nodeIdleTimeBeforeScaleDown": "PT2M"}
    return {
        "location": REGION,
        "tags": {},
        "properties": _properties(
            {"computeType": "AmlCompute", "properties": {"vmSize": SIZE, "scaleSettings": scale}}
        ),
    }


def _shown(resource: Resource) -> Body:
    body = {"location": REGION, "tags": {}, **arm.shown(resource)}
    body.pop("systemData")  # the compute service shows none
    return body


def _is(row: Resource, kind: str) -> bool:
    return not kind or str(row.properties["computeType"]).lower() == kind


def _found(call: Call, id_: str) -> Resource:
    resource = call.local.store.get(id_)
    if resource is None:
        raise not_found(f"Compute {call.path['name']} not found.")
    return resource


def _operation(call: Call, id_: str) -> dict[str, str]:
    headers = arm.lro_headers(call, id_, "compute")
    headers.pop("Location")
    return headers
