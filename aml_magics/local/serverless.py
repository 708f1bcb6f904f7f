"""Keys of serverless endpoints: kept as Azure keeps them, though nothing here is called by them."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from aml_magics.local import endpoints, resources
from aml_magics.local.wire import Call, bad_request


def list_keys(call: Call) -> Response:
    with call.local.store.transaction():
        return _shown(_keys(call))


def regenerate_keys(call: Call) -> Response:
    with call.local.store.transaction():
        keys = endpoints.renewed(_keys(call), call.document())
        call.local.store.note(call.arm_id.rpartition("/")[0], "keys", keys)
    return _shown(keys)


def _keys(call: Call) -> dict[str, str]:
    """The keys of the endpoint, made when they are first asked for.

    Raises: ArmError: there is no such endpoint, or it takes no keys.
    """
    endpoint = resources.found(call, "serverlessEndpoints")
    if endpoint.properties["authMode"] != "Key":
        raise bad_request(f"Endpoint {endpoint.name} does not authenticate by keys.")
    keys: dict[str, str] = call.local.store.noted(endpoint.id, "keys") or endpoints.new_keys()
    call.local.store.note(endpoint.id, "keys", keys)
    return keys


def _shown(keys: dict[str, str]) -> Response:
    return JSONResponse({"primaryKey": keys["Primary"], "secondaryKey": keys["Secondary"]})
