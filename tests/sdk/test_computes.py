"""Computes through the unmodified SDK: made, attached, started, resized, deleted."""

from __future__ import annotations

import pytest
from azure.ai.ml.entities import (
    AmlCompute,
    ComputeInstance,
    KubernetesCompute,
    SynapseSparkCompute,
    VirtualMachineCompute,
    VirtualMachineSshSettings,
    Workspace,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

VM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm"
POOL = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Synapse/workspaces/w/bigDataPools/pool"
)
CLUSTER = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Kubernetes/connectedClusters/cluster"
)
KINDS = {
    "amlcompute": AmlCompute(name="cpu", size="STANDARD_DS2_V2", min_instances=0, max_instances=4),
    "computeinstance": ComputeInstance(name="desk", size="STANDARD_DS3_V2"),
    "virtualmachine": VirtualMachineCompute(
        name="vm",
        resource_id=VM,
        ssh_settings=VirtualMachineSshSettings(admin_username="me", admin_password="secret"),
    ),
    "kubernetes": KubernetesCompute(name="k8s", resource_id=CLUSTER, namespace="default"),
    "synapsespark": SynapseSparkCompute(name="spark", resource_id=POOL),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_compute_of_each_kind_is_made_read_listed_and_deleted(client, kind):
    asked = KINDS[kind]
    made = client.compute.begin_create_or_update(asked).result()
    assert (made.name, made.type, made.provisioning_state) == (asked.name, kind, "Succeeded")
    assert client.compute.get(asked.name).type == kind
    assert [found.name for found in client.compute.list()] == [asked.name]
    assert [found.name for found in client.compute.list(compute_type=made.type)] == [asked.name]
    client.compute.begin_delete(asked.name, action="Detach").result()
    assert list(client.compute.list()) == []
    with pytest.raises(ResourceNotFoundError):
        client.compute.get(asked.name)


def test_a_cluster_keeps_its_scale(client):
    client.compute.begin_create_or_update(KINDS["amlcompute"]).result()
    cluster = client.compute.get("cpu")
    assert (cluster.size, cluster.min_instances, cluster.max_instances) == (
        "STANDARD_DS2_V2",
        0,
        4,
    )
    cluster.max_instances = 8
    assert client.compute.begin_update(cluster).result().max_instances == 8
    assert list(client.compute.list_nodes("cpu")) == []


def test_an_instance_stops_and_starts(client):
    client.compute.begin_create_or_update(KINDS["computeinstance"]).result()
    for act, state in (("stop", "Stopped"), ("start", "Running"), ("restart", "Running")):
        getattr(client.compute, f"begin_{act}")("desk").result()
        assert client.compute.get("desk").state == state


def test_a_password_is_not_given_back(client, arm):
    client.compute.begin_create_or_update(KINDS["virtualmachine"]).result()
    assert "secret" not in arm("GET", "./computes/vm").text


def test_any_name_is_a_cluster_on_this_machine(client):
    assert client.compute.get("whatever").type == "amlcompute"
    with pytest.raises(HttpResponseError, match="Only a compute instance"):
        client.compute.begin_start("whatever").result()


def test_sizes_and_usage_are_this_machines(client):
    assert [size.name for size in client.compute.list_sizes()] == ["LOCAL"]
    (usage,) = client.compute.list_usage()
    assert usage.limit >= 1


def test_where_nothing_is_made_on_demand_a_compute_must_be_there(strict_client):
    strict_client.workspaces.begin_create(Workspace(name=strict_client.workspace_name)).result()
    with pytest.raises(ResourceNotFoundError):
        strict_client.compute.get("cpu")
    strict_client.compute.begin_create_or_update(KINDS["amlcompute"]).result()
    assert strict_client.compute.get("cpu").type == "amlcompute"
