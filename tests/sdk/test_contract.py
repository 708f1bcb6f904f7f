"""Each recorded exchange with Azure ML, repeated here: same status, headers and keys."""

from __future__ import annotations

import re

import pytest

from tests.sdk import contract, scenes, states

# Pattern of an exchange → why it is not answered as recorded. A row that is answered fails, so
# that the table stays true.
MISSES = {
    r"PUT /WS/jobs/\{job\} 201 AutoML": "AutoML is for tables only",
    r"^34 GET \S+/children": "no datasets of the first generation",
    r"PUT /WS/jobs/\{job\} 404 Spark": "what was not found is not in the recording",
    r"/startlocalrun": "scripts that set up a local run are not made",
    r"/rundata|/runs/\{run\}/details": "runs have no definition in the legacy format",
    r"/datastores/\S+ (500|504)": "failures of Azure's own services",
    r"/(assetstore|environment|\S+/workspaceOperationsStatus)/\S+ 202": "done when asked for",
    r"PUT /REG/components/\S+ 401": "no roles: a token opens everything",
    r"ResourceGraph|/virtual[cC]lusters/": "no virtual clusters",
    r"/ux/v1.0/entities": "entities of other regions are not indexed",
    r"GET /SUB/RG/resources": "nothing is beside workspaces",
    r"/(backfill|listMaterializationJobs) ": "features are not materialized",
    r"/provisionManagedNetwork": "no managed networks",
}

pytestmark = pytest.mark.skipif(not contract.PATH, reason=f"../{contract.FILE} is not here")


@pytest.fixture
def scene(address, connection):
    made = scenes.Scene(address, connection)
    yield made
    made.close()


def missing(exchange):
    """Why an exchange is known not to be answered, or None."""
    return next((why for pattern, why in MISSES.items() if re.search(pattern, str(exchange))), None)


@pytest.mark.parametrize("exchange", contract.exchanges(), ids=str)
def test_exchange(exchange, scene, record_property):
    reason = missing(exchange)
    record_property("contract", reason or "answered")
    try:
        lacks = contract.lacks(exchange, states.replayed(scene, exchange))
    except (AssertionError, LookupError) as exc:  # its state cannot be made
        lacks = [f"no state: {exc}"]
    if reason:
        assert lacks, f"answered now: take its row out of MISSES ({reason})"
    else:
        assert not lacks
