"""The groups of az ml as data: KINDS for the verbs they share, ACTIONS for those of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NOTHING: Mapping[str, str] = MappingProxyType({})


class Kind(NamedTuple):
    operations: str  # attribute of MLClient
    loader: str  # function of azure.ai.ml
    columns: tuple[str, ...]  # of a list
    versioned: bool = False
    costs: bool = False  # deleting stops machines or loses what is within: ask for --yes
    loaders: Mapping[str, str] = NOTHING  # by the `type` of its YAML, where that matters
    filters: Mapping[str, str] = NOTHING  # flags of a list → what the SDK calls them
    owns: bool = False  # others depend on it, and may be deleted with it


_VERSIONED = ("name", "version", "latest_version", "type", "description", "created")
_UNTYPED = tuple(column for column in _VERSIONED if column != "type")  # a list does not tell
_PLACE = ("name", "location", "display_name", "description", "provisioning_state")
KINDS = {
    "data": Kind("data", "load_data", _VERSIONED, versioned=True),
    "model": Kind("models", "load_model", _UNTYPED, versioned=True),
    "environment": Kind("environments", "load_environment", _VERSIONED, versioned=True),
    "component": Kind("components", "load_component", _VERSIONED, versioned=True),
    "compute": Kind(
        "compute",
        "load_compute",
        ("name", "type", "size", "state", "provisioning_state"),
        costs=True,
        filters={"type": "compute_type"},
    ),
    "datastore": Kind("datastores", "load_datastore", ("name", "type", "account_name")),
    "online-endpoint": Kind(
        "online_endpoints",
        "load_online_endpoint",
        ("name", "auth_mode", "traffic", "provisioning_state", "scoring_uri"),
        costs=True,
    ),
    "online-deployment": Kind(
        "online_deployments",
        "load_online_deployment",
        ("name", "endpoint_name", "model", "instance_type", "provisioning_state"),
        costs=True,
    ),
    "batch-endpoint": Kind(
        "batch_endpoints",
        "load_batch_endpoint",
        ("name", "auth_mode", "defaults", "provisioning_state", "scoring_uri"),
        costs=True,
    ),
    "batch-deployment": Kind(
        "batch_deployments",
        "load_batch_deployment",
        ("name", "endpoint_name", "type", "model", "compute", "provisioning_state"),
        costs=True,
        loaders={
            "model": "load_model_batch_deployment",
            "pipeline": "load_pipeline_component_batch_deployment",
        },
    ),
    "schedule": Kind(
        "schedules", "load_schedule", ("name", "is_enabled", "trigger", "description")
    ),
    "workspace": Kind("workspaces", "load_workspace", _PLACE, costs=True, owns=True),
    "feature-store": Kind("feature_stores", "load_feature_store", _PLACE, costs=True, owns=True),
    "feature-store-entity": Kind(
        "feature_store_entities", "load_feature_store_entity", _UNTYPED, versioned=True
    ),
    "feature-set": Kind("feature_sets", "load_feature_set", _UNTYPED, versioned=True),
    "registry": Kind("registries", "load_registry", ("name", "location", "description")),
    "connection": Kind(
        "connections",
        "load_connection",
        ("name", "type", "target", "is_shared", "created"),
        costs=True,
        filters={"type": "connection_type"},
    ),
    "index": Kind("indexes", "load_index", _UNTYPED, versioned=True),
    "serverless-endpoint": Kind(
        "serverless_endpoints",
        "load_serverless_endpoint",
        ("name", "model_id", "auth_mode", "provisioning_state", "scoring_uri"),
    ),
    "marketplace-subscription": Kind(
        "marketplace_subscriptions",
        "load_marketplace_subscription",
        ("name", "model_id", "status", "provisioning_state"),
    ),
    "capability-host": Kind("capability_hosts", "load_capability_host", ("name", "kind")),
}
# Flags of az ml whose place in the YAML has another name.
FIELDS = {
    "build_context": "build.path",
    "dockerfile_path": "build.dockerfile_path",
    "ssh_port": "ssh_settings.ssh_port",
    "ssh_private_key_file": "ssh_settings.ssh_private_key_file",
    "workspace_kind": "kind",
}
# What the SDK makes of the service's words here and there: EndpointProvisioningState.SUCCEEDED
ENUM_MEMBER = re.compile(r"[A-Z][a-z]\w+\.([A-Z]+)")
# Fields a card leaves out; ``.data`` has them all.
HIDDEN = frozenset(
    (
        *("name", "version", "id", "creation_context", "properties", "code_configuration"),
        *("identity", "kind", "public_network_access", "openapi_uri", "mirror_traffic"),
        *("credentials", "endpoint", "protocol", "scale_settings", "request_settings"),
        *("liveness_probe", "readiness_probe", "app_insights_enabled", "resource_group"),
        *("egress_public_network_access", "system_data", "metadata"),
    )
)


class Action(NamedTuple):
    operations: str  # attribute of MLClient
    verb: str  # its method, or what follows begin_ there
    gives: str  # done | asset | fields | rows | secrets
    words: Mapping[str, str] = NOTHING  # our options → what the SDK calls them
    fixed: Mapping[str, Any] = NOTHING  # what is always said
    done: str = ""  # in a sentence: "started"
    costs: bool = False  # ask for --yes
    in_workspace: bool = False  # the SDK asks for the workspace's name


_OF_ENDPOINT = {"name": "endpoint_name"}
_OF_SET = {"name": "feature_set_name"}
_OF_WORKSPACE = {"name": "workspace_name"}
_OF_STORE = {"name": "feature_store_name"}
_OF_RULE = {"rule": "outbound_rule_name"}
_RULES = "workspace_outbound_rules"
ACTIONS = {
    "compute start": Action("compute", "start", "done", done="started"),
    "compute stop": Action("compute", "stop", "done", done="stopped"),
    "compute restart": Action("compute", "restart", "done", done="restarted"),
    "compute detach": Action(
        "compute", "delete", "done", fixed={"action": "Detach"}, done="detached", costs=True
    ),
    "compute list-nodes": Action("compute", "list_nodes", "rows"),
    "compute list-sizes": Action("compute", "list_sizes", "rows", {"type": "compute_type"}),
    "compute list-usage": Action("compute", "list_usage", "rows"),
    "batch-endpoint list-jobs": Action("batch_endpoints", "list_jobs", "rows", _OF_ENDPOINT),
    "batch-deployment list-jobs": Action("batch_deployments", "list_jobs", "rows"),
    "data share": Action("data", "share", "asset"),
    "model share": Action("models", "share", "asset"),
    "environment share": Action("environments", "share", "asset"),
    "feature-set list-features": Action("feature_sets", "list_features", "rows", _OF_SET),
    "feature-set show-feature": Action("feature_sets", "get_feature", "asset", _OF_SET),
    "feature-set get-feature": Action("feature_sets", "get_feature", "asset", _OF_SET),
    "feature-set list-materialization-operation": Action(
        "feature_sets", "list_materialization_operations", "rows"
    ),
    "workspace diagnose": Action("workspaces", "diagnose", "fields", done="diagnosed"),
    "workspace list-keys": Action("workspaces", "get_keys", "secrets"),
    "workspace sync-keys": Action("workspaces", "sync_keys", "done", done="keys are in step"),
    "workspace provision-network": Action(
        "workspaces", "provision_network", "fields", _OF_WORKSPACE
    ),
    "feature-store provision-network": Action(
        "feature_stores", "provision_network", "fields", _OF_STORE
    ),
    "workspace outbound-rule list": Action(_RULES, "list", "rows", in_workspace=True),
    "workspace outbound-rule show": Action(_RULES, "get", "asset", _OF_RULE, in_workspace=True),
    "workspace outbound-rule remove": Action(
        _RULES, "remove", "done", _OF_RULE, done="removed", costs=True, in_workspace=True
    ),
    "online-endpoint regenerate-keys": Action(
        "online_endpoints", "regenerate_keys", "done", done="keys made anew"
    ),
    "serverless-endpoint get-credentials": Action("serverless_endpoints", "get_keys", "secrets"),
    "job show-services": Action("jobs", "show_services", "fields"),
    "azure-openai-deployment list": Action("azure_openai_deployments", "list", "rows"),
}
