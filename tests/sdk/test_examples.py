"""Every YAML file of Azure's published examples: created by the unmodified SDK, or refused by name.

Their scripts, registered assets and blanks are supplied by `example_supplies`. Nothing is run: the
daemon of these tests has no slot for a job, and what is started is cancelled or deleted at once.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Registry, RegistryRegionDetails
from azure.ai.ml.exceptions import MlException
from azure.core.exceptions import HttpResponseError
from marshmallow import ValidationError

from aml_magics.local import daemon
from tests.conftest import client_of, connect
from tests.sdk import example_kinds, example_supplies

AROUND = [folder / "shared" / "examples" for folder in Path(__file__).resolve().parents]
EXAMPLES = next((folder for folder in AROUND if folder.is_dir()), AROUND[3])
SUBSTITUTES = "_substitutes"
NAMES = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.y*ml"))
# What may be refused by name: the words, and what is missing. What is created instead passes too.
REFUSALS = {
    r"does not run (jobs|pipeline steps) of type": "jobs of that type do not run yet",
    r"not containers": "containers are not run here",
    r"which the local workspace does not have": "components of Azure's own registry are not here",
    r"prompt flows": "prompt flows are not run here",
    r"cannot reach what the connection": "what connections lead to is not here",
    r"Spark jobs need": "pyspark or Java is not installed here",
    r"AutoML jobs need": "FLAML is not installed here",
    r"does not run AutoML tasks of type": "AutoML is for tables only",
    r"packag": "models are not packaged into images here",
}
# What the SDK itself refuses, before any request, and its words.
REFUSED_BY_THE_SDK = {
    "cli/endpoints/batch/deploy-pipelines/training-with-components/deployment-ordinal/pipeline.yml":
        "Component name should only contain lower letter, number, underscore",
    "cli/endpoints/online/deploy-with-packages/custom-model/model-deployment.yml":
        "The name for a deployment must start with an upper- or lowercase letter",
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NAMES, reason=f"the examples are not at {EXAMPLES}"),
]


@pytest.fixture(scope="module")
def idle_address(tmp_path_factory):
    """A daemon that lets jobs wait for ever."""
    home = tmp_path_factory.mktemp("idle home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AML_LOCAL_SLOTS", "0")
        address = daemon.ensure(home)
    yield address
    daemon.stop(home)


class Tally(defaultdict):
    """Outcome → why, once for each example; printed at the end of the run."""

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("YAML examples")
        for outcome, reasons in sorted(self.items()):
            terminalreporter.write_line(f"{len(reasons):4} {outcome}")
            for reason, count in Counter(reasons).most_common():
                terminalreporter.write_line(f"     {count:4} {reason}")


@pytest.fixture(scope="module")
def tally(pytestconfig):
    counts = Tally(list)
    pytestconfig.pluginmanager.register(counts)
    return counts


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return example_supplies.copy(EXAMPLES, tmp_path_factory.mktemp("copy") / "examples")


@pytest.fixture
def idle_client(idle_address, monkeypatch):
    connection = connect(idle_address, monkeypatch)
    client = client_of(connection)
    client.connection = connection
    return client


@pytest.fixture
def in_registry(idle_client):
    """The SDK on a registry of any name, made when it is not there and deleted after the test."""
    known = {}

    def client_of_registry(name):
        way = idle_client.connection
        options = {"cloud": way.cloud, "cloud_metadata": way.cloud_metadata}
        credential = idle_client._credential
        return MLClient(credential, registry_name=name, show_progress=False, **options)

    def connect_to(name):
        if name not in known and name != "azureml":
            place = RegistryRegionDetails(location="eastus")
            asked = Registry(name=name, location="eastus", replication_locations=[place])
            idle_client.registries.begin_create(asked).result()
        return known.setdefault(name, client_of_registry(name))

    yield connect_to
    for name, client in known.items():
        client.registries.begin_delete(name=name).result()


@pytest.fixture
def attempt(idle_client, in_registry, examples, monkeypatch):
    """Try to create what a file describes; gives how that went, and why."""

    def act(name):
        path = examples / name
        kind, part = example_kinds.kind_of(name, yaml.safe_load(path.read_text("utf-8")))
        if kind is None:
            return "no resource", part
        monkeypatch.chdir(path.parent)  # the SDK takes some paths from where the shell is
        example_supplies.add_files(path, examples / SUBSTITUTES)
        try:
            entity = example_kinds.KINDS[kind].load(source=str(path))
            example_supplies.register(path, idle_client, in_registry)
            example_kinds.KINDS[kind].create(idle_client, entity)
        except (ValidationError, MlException) as exc:
            return "refused by the SDK", str(exc)
        except HttpResponseError as exc:
            if exc.status_code != 501:
                raise
            return "refused by name (501)", exc.message
        return "created", kind

    return act


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_an_example_is_created_or_refused_by_name(name, attempt, tally):
    outcome, why = attempt(name)
    if outcome == "refused by the SDK" or name in REFUSED_BY_THE_SDK:
        assert REFUSED_BY_THE_SDK.get(name, "nothing") in " ".join(why.split())
        why = REFUSED_BY_THE_SDK[name]
    if outcome == "refused by name (501)":
        why = next((meant for words, meant in REFUSALS.items() if re.search(words, why)), why)
        assert why in REFUSALS.values()
    assert why, "neither a resource nor a part of one"
    tally[outcome].append(why)
