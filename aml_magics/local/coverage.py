"""What is emulated and how, as docs/coverage.md tells it.

`python -m aml_magics.local.coverage > docs/coverage.md` writes that file anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from aml_magics.local.resources import cannot_run
from aml_magics.local.routes import ROUTES

REAL, STORED, REFUSED, CLIENT = "real", "stored only", "501", "client only"
# Modules and asset kinds whose resources come back as they were put, and do nothing.
STORED_MODULES = {"computes", "groups", "indexes", "resources", "serverless"}
STORED_ASSETS = {"featuresets", "featurestoreEntities"}
REAL_COLLECTIONS = {"schedules"}  # kept by a stored module, and acted on


class Group(NamedTuple):
    """Operations of one group of `MLClient`, by how they are answered.

    `client`: no request is sent, or the work is done by a package that is not the SDK's own.
    """

    real: str = ""
    stored: str = ""
    refused: str = ""
    client: str = ""


_LIFE = "begin_create_or_update begin_delete get list"
_ASSET = "archive create_or_update get list restore"
OPERATIONS = {
    "azure_openai_deployments": Group(refused="list"),
    "batch_deployments": Group(real="list_jobs", stored=_LIFE),
    "batch_endpoints": Group(real="invoke list_jobs", stored=_LIFE),
    "capability_hosts": Group(stored="begin_create_or_update begin_delete get"),
    "components": Group(real=f"{_ASSET} download validate", client="prepare_for_sign"),
    "compute": Group(
        real="list_sizes list_usage",
        stored=f"{_LIFE} begin_attach begin_restart begin_start begin_stop begin_update list_nodes",
        refused="enable_sso",
    ),
    "connections": Group(stored="create_or_update delete get list"),
    "data": Group(
        real=f"{_ASSET} import_data share",
        client="list_materialization_status mount",
    ),
    "datastores": Group(
        real="get get_default list", stored="create_or_update delete", client="mount"
    ),
    "deployment_templates": Group(refused=f"{_ASSET} delete"),
    "environments": Group(real=f"{_ASSET} share"),
    "evaluators": Group(stored="create_or_update download get list"),
    "feature_sets": Group(
        stored="archive begin_create_or_update get list list_materialization_operations restore",
        real="get_feature list_features",
        refused="begin_backfill",
    ),
    "feature_store_entities": Group(stored="archive begin_create_or_update get list restore"),
    "feature_stores": Group(
        stored="begin_create begin_delete begin_update get list", refused="begin_provision_network"
    ),
    "indexes": Group(stored="create_or_update get list", refused="build_index"),
    "jobs": Group(
        real="archive begin_cancel begin_delete create_or_update download get list restore "
        "show_services stream update",
        client="validate",
    ),
    "marketplace_subscriptions": Group(stored=_LIFE),
    "models": Group(real=f"{_ASSET} download share", refused="package"),
    "online_deployments": Group(real=f"{_LIFE} get_logs"),
    "online_endpoints": Group(real=f"{_LIFE} begin_regenerate_keys get_keys invoke"),
    "registries": Group(real="begin_create begin_delete get list"),
    "schedules": Group(real=f"{_LIFE} begin_disable begin_enable trigger"),
    "serverless_endpoints": Group(stored=f"{_LIFE} get_keys", client="begin_regenerate_keys"),
    "workspace_outbound_rules": Group(stored="begin_create begin_remove begin_update get list"),
    "workspaces": Group(
        real="begin_create begin_delete begin_diagnose begin_sync_keys begin_update get get_keys "
        "list",
        refused="begin_provision_network",
    ),
}
NOTES = {
    "batch_endpoints": (
        "An invocation is a job: a model's mini-batches, or a pipeline component. An MLflow model "
        "without a script is scored by the workspace's own Python."
    ),
    "compute": "A compute is a name for this machine: any name is one, and runs jobs here.",
    "data": (
        "Imports come from what `AML_LOCAL_DATA` has for a connection. The SDK's "
        "`list_materialization_status` fails before it sends a request."
    ),
    "datastores": (
        "The workspace's own hold files; others are places elsewhere, which `AML_LOCAL_DATA` has."
    ),
    "deployment_templates": (
        "The SDK takes any failure of a `get` for a template that is not there."
    ),
    "environments": (
        "A conda file or a build context's requirements are built, their Dockerfile is not run; an "
        "image or a curated name is the daemon's Python."
    ),
    "jobs": (
        "Command, pipeline and sweep jobs and parallel and data transfer steps run, Spark jobs "
        "with the extra `spark`, AutoML on tables with the extra `automl`; no others."
    ),
    "online_deployments": (
        "MLflow models and scoring scripts are served, each instance a process; custom containers "
        "and Triton models are refused. Scripts need the extra `serve`, or an environment with "
        "`azureml-inference-server-http`. Of request settings that are Azure's "
        "defaults only the timeout counts; `instance_type` is a name of a size and no more, and "
        "nothing scales by itself."
    ),
    "schedules": (
        "Jobs are made at their times while the daemon runs, which an enabled schedule keeps up; "
        "monitors are stored only. As on Azure, days of the month and months of a "
        "cron expression count as `*`."
    ),
    "serverless_endpoints": (
        "Nothing serves them: they are offline, and their keys open nothing. The SDK's "
        "`begin_regenerate_keys` fails before it sends its request."
    ),
    "workspaces": (
        "The workspace of a login is made on the spot; others are created, as workspace, hub, "
        "project or feature store. A program under `aml-local run` gets any name it asks for, and "
        "creates such others where `AML_LOCAL_STRICT=1` is set for it."
    ),
}
INTRODUCTION = """# What the local workspace emulates

This file is generated: `python -m aml_magics.local.coverage > docs/coverage.md`.

- **real**: done as Azure does it, on this machine.
- **stored only**: kept and given back, with the states and answers that clients wait for. It runs
  nothing, and nothing is claimed to run.
- **501**: refused by name; the daemon's log says so too.
- **client only**: no request reaches a workspace.

Any request that is not in the second table answers 501 as well.
"""


def document() -> str:
    """The text of docs/coverage.md."""
    operations = ["| group | " + " | ".join((REAL, STORED, REFUSED, CLIENT)) + " | note |"]
    operations += ["|---" * 6 + "|", *map(_operation_row, OPERATIONS)]
    routes = ["| request | how |", "|---|---|"]
    routes += [f"| `{verbs} {path}` | {how} |" for verbs, path, how in requests()]
    return "\n".join(
        [
            INTRODUCTION,
            "## Operations of `azure.ai.ml.MLClient` 1.35\n",
            *operations,
            "\n## Requests\n",
            *routes,
            "",
        ]
    )


def requests() -> Iterator[tuple[str, str, str]]:
    """Every row of ROUTES as verbs, readable path and how it is answered."""
    for verbs, pattern, function in ROUTES:
        module = function.__module__.rpartition(".")[2]
        for path in _paths(pattern):
            is_told = "/locations/" in path  # what the daemon finds out when it is asked
            is_acted_on = is_told or bool(REAL_COLLECTIONS & {*path.split("/")})
            is_kept = module in STORED_MODULES and not is_acted_on
            is_stored = is_kept or bool(STORED_ASSETS & {*path.split("/")})
            how = STORED if is_stored else REAL
            yield verbs, path, REFUSED if function is cannot_run else how


def _operation_row(name: str) -> str:
    cells = [", ".join(sorted(operations.split())) for operations in OPERATIONS[name]]
    return f"| {name} | {' | '.join(cells)} | {NOTES.get(name, '')} |"


def _paths(pattern: str) -> list[str]:
    """A pattern as paths to read: one for each collection, optional parts left out."""
    text = pattern.replace("{ws}", "/{workspace}").replace(":path}", "}").replace("\\.", ".")
    text = re.sub(r"\\d", "1", text).replace("[^/]+", "*")
    text = text.replace("/subscriptions/{subscription}/resourceGroups/{group}", "/{group}")
    text = text.replace("/subscriptions/{subscription}", "/{subscription}")
    while text != (text := _GROUP.sub(_readable, text)):
        pass
    choices = re.search(r"\(\?P<\w+>([^()]*)\)", text)
    if choices is None:
        return [text]
    head, tail = text[: choices.start()], text[choices.end() :]
    options = [choices[1]] if "{" in choices[1] else choices[1].split("|")
    return [path for option in options for path in _paths(head + option + tail)]


_GROUP = re.compile(r"\(\?:([^()]*)\)(\??)")


def _readable(match: re.Match[str]) -> str:
    return "" if match[2] else f"{{{match[1].replace('|', ',')}}}"


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201
