"""Computes through the unmodified SDK: made, attached, started, resized, deleted."""

from __future__ import annotations

import pytest
from azure.ai.ml.entities import (
    AmlCompute,
    AmlComputeSshSettings,
    ComputeInstance,
    ComputeSchedules,
    ComputeStartStopSchedule,
    CronTrigger,
    IdentityConfiguration,
    KubernetesCompute,
    ManagedIdentityConfiguration,
    RecurrencePattern,
    RecurrenceTrigger,
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


EACH_EVENING = ComputeStartStopSchedule(trigger=CronTrigger(expression="0 18 * * *"), action="stop")
EACH_MONDAY = ComputeStartStopSchedule(
    trigger=RecurrenceTrigger(
        frequency="week",
        interval=1,
        schedule=RecurrencePattern(hours=8, minutes=0, week_days=["monday"]),
    ),
    action="start",
    state="disabled",
)
ONE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
# What the SDK is given for a compute and reads back equal.
FIELDS = {
    "amlcompute": {
        "size": "STANDARD_DS3_V2",
        "tier": "low_priority",
        "min_instances": 1,
        "max_instances": 3,
        "idle_time_before_scale_down": 300,
        "enable_node_public_ip": False,
        "description": "Cheap.",
        "tags": {"team": "a"},
    },
    "computeinstance": {
        "size": "STANDARD_DS3_V2",
        "description": "A desk.",
        "tags": {"team": "a"},
        "ssh_public_access_enabled": True,
        "idle_time_before_shutdown_minutes": 30,
        "enable_node_public_ip": False,
        "enable_root_access": False,
        "release_quota_on_stop": True,
        "enable_os_patching": True,
        "enable_sso": False,
    },
    "kubernetes": {"resource_id": CLUSTER, "namespace": "ml", "description": "Ours."},
    "virtualmachine": {"resource_id": VM, "description": "Mine.", "tags": {"team": "a"}},
    "synapsespark": {"resource_id": POOL, "description": "A pool."},
}
CLASSES = {kind: type(asked) for kind, asked in KINDS.items()}
BESIDE = {
    "amlcompute": {"ssh_settings": AmlComputeSshSettings(admin_username="me", ssh_key_value="k")},
    "virtualmachine": {"ssh_settings": KINDS["virtualmachine"].ssh_settings},
}


@pytest.mark.parametrize("kind", FIELDS)
def test_what_a_compute_is_given_is_read_back_equal(client, kind):
    fields = FIELDS[kind]
    asked = CLASSES[kind](name="mine", **fields, **BESIDE.get(kind, {}))
    client.compute.begin_create_or_update(asked).result()
    found = client.compute.get("mine")
    assert {name: getattr(found, name) for name in fields} == fields
    if "ssh_settings" in BESIDE.get(kind, {}):
        assert found.ssh_settings.admin_username == "me"


def test_an_attached_cluster_uses_an_identity(client):
    ids = [f"{ONE}/mine"]
    identity = IdentityConfiguration(
        type="user_assigned",
        user_assigned_identities=[ManagedIdentityConfiguration(resource_id=ids[0])],
    )
    asked = KubernetesCompute(name="k8s", resource_id=CLUSTER, identity=identity)
    client.compute.begin_attach(asked).result()
    found = client.compute.get("k8s").identity
    assert [one.resource_id for one in found.user_assigned_identities] == ids


def test_an_instance_keeps_its_schedules_and_takes_others(client):
    schedules = ComputeSchedules(compute_start_stop=[EACH_EVENING, EACH_MONDAY])
    asked = ComputeInstance(name="desk", schedules=schedules, idle_time_before_shutdown_minutes=15)
    client.compute.begin_create_or_update(asked).result()
    found = client.compute.get("desk")
    told = [
        (one.action.lower(), one.state.lower(), one.trigger.type.lower())
        for one in found.schedules.compute_start_stop
    ]
    assert told == [("stop", "enabled", "cron"), ("start", "disabled", "recurrence")]
    evening, monday = (one.trigger for one in found.schedules.compute_start_stop)
    assert evening.expression == "0 18 * * *"
    assert [day.lower() for day in monday.schedule.week_days] == ["monday"]
    found.schedules = ComputeSchedules(compute_start_stop=[EACH_MONDAY])
    found.idle_time_before_shutdown_minutes = 60
    client.compute.begin_create_or_update(found).result()
    changed = client.compute.get("desk")
    assert [one.action.lower() for one in changed.schedules.compute_start_stop] == ["start"]
    assert changed.idle_time_before_shutdown_minutes == 60


def test_single_sign_on_cannot_be_changed_afterwards(client):
    client.compute.begin_create_or_update(KINDS["computeinstance"]).result()
    with pytest.raises(HttpResponseError, match="enableSso") as refusal:
        client.compute.enable_sso(name="desk", enable_sso=False)
    assert refusal.value.status_code == 501
