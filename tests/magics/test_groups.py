"""Groups of az ml whose verbs the tables of `kinds` spell out, on the local workspace."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest

from aml_magics.errors import AmlError, BadCommand, NotFound
from aml_magics.records import Done

ID = uuid4().hex[:8]  # registries and workspaces are everybody's
REGISTRY = """\
name: NAME
location: eastus
description: first
replication_locations:
  - location: eastus
    storage_config: {storage_account_hns: false, storage_account_type: standard_lrs}
"""
# group → name, YAML, a change and the field it makes, flags of a deletion
GROUPS = {
    "compute": ("c", "type: amlcompute\nsize: Standard_DS3_v2", "max_instances=3", "--yes"),
    "batch-endpoint": (f"be-{ID}", "description: first", "description=second", "--yes"),
    "registry": (f"reg-{ID}", REGISTRY, "", ""),
    "workspace": (f"made-{ID}", "description: first", "description=second", "--yes"),
    "feature-store": (f"fs-{ID}", "description: first", "description=second", "--yes"),
    "connection": (
        "git",
        "type: git\ntarget: https://git.invalid/x",
        "",
        "--yes",
    ),
    "serverless-endpoint": (
        f"sl-{ID}",
        "model_id: azureml://registries/azureml-meta/models/Llama",
        "",
        "",
    ),
    "marketplace-subscription": (
        f"sub-{ID}",
        "model_id: azureml://registries/azureml-meta/models/Llama",
        "",
        "",
    ),
}


@pytest.fixture
def made(aml):
    """Make one of a group from its YAML; what is left is deleted."""

    def call(group):
        name, text, change, flags = GROUPS[group]
        Path("one.yml").write_text(text.replace("NAME", name))
        return name, change, flags, aml(f"{group} create -n {name} -f one.yml")

    return call


@pytest.mark.parametrize("group", GROUPS)
def test_one_is_made_listed_shown_changed_and_deleted(group, aml, made):
    name, change, flags, asset = made(group)
    assert asset.name == name and repr(asset).startswith(f"{group} {name}\n")
    listed = aml(f"{group} list")
    assert isinstance(listed, pd.DataFrame) and name in list(listed["name"])
    assert aml(f"{group} show {name}").name == name
    if change:
        field, _, value = change.partition("=")
        assert str(aml(f"{group} update {name} --set {change}")[field]) == value
        assert str(aml(f"{group} show {name}")[field]) == value
    if flags:
        with pytest.raises(BadCommand, match="cannot be undone"):
            aml(f"{group} delete -n {name}")
    assert isinstance(aml(f"{group} delete -n {name} {flags}"), Done)
    with pytest.raises(AmlError) as caught:
        aml(f"{group} show {name}")
    assert isinstance(caught.value, NotFound), caught.value


def test_a_compute_instance_is_stopped_and_started(aml):
    aml("compute create -n mine --type computeinstance --size Standard_DS3_v2")
    assert "stopped" in repr(aml("compute stop mine"))
    assert aml("compute show mine").state == "Stopped"
    assert "started" in repr(aml("compute start mine"))
    assert aml("compute show mine").state == "Running"
    aml("compute restart mine")
    assert list(aml("compute list --type computeinstance")["name"]) == ["mine"]


def test_what_computes_there_can_be(aml):
    aml("compute create -n nodes --type amlcompute --size Standard_DS3_v2")
    assert isinstance(aml("compute list-nodes nodes"), pd.DataFrame)
    assert "name" in aml("compute list-sizes")
    assert "limit" in aml("compute list-usage")


def test_keys_are_masked(aml, workspace):
    keys = aml(f"workspace list-keys {workspace}")
    shown = repr(keys) + keys._repr_html_() + str(aml(f"workspace list-keys {workspace} -O json"))
    secrets = [value.value for value in keys.data.values() if hasattr(value, "value")]
    assert secrets and not [secret for secret in secrets if secret in shown]


def test_what_cannot_be_changed_says_so(aml, made):
    made("connection")
    with pytest.raises(BadCommand, match="'target' is not changed"):
        aml("connection update git --set target=https://git.invalid/y")


def test_outbound_rules_are_listed(aml):
    assert aml("workspace outbound-rule list").empty
    with pytest.raises(NotFound):
        aml("workspace outbound-rule show --rule nothing")


@pytest.fixture
def registry(aml):
    """A registry that is deleted at the end."""
    name = f"reg-{uuid4().hex[:8]}"
    Path("registry.yml").write_text(REGISTRY.replace("NAME", name))
    aml("registry create -f registry.yml")
    yield name
    aml(f"registry delete {name}")


def test_an_asset_is_shared_with_a_registry_and_read_there(aml, registry):
    Path("model.txt").write_text("3")
    aml("model create -n three --path model.txt --type custom_model")
    where = f"--registry-name {registry}"
    aml(f"model share -n three -v 1 --share-with-name ours --share-with-version 5 {where}")

    assert list(aml(f"model list {where}")["name"]) == ["ours"]
    assert aml(f"model show ours -v 5 {where}").version == "5"
    with pytest.raises(NotFound):
        aml("model show ours")


def test_an_environment_is_made_in_a_registry(aml, registry):
    aml(f"environment create -n plain --image python:3.11 -v 1 --registry-name {registry}")
    assert aml(f"environment show plain -v 1 --registry-name {registry}").image == "python:3.11"


SPECIFICATION = """\
source: {type: parquet, path: data, timestamp_column: {name: at}}
features: [{name: amount, type: float}]
index_columns: [{name: account, type: string}]
"""


@pytest.fixture
def store(aml, workspace):
    """A feature store with an entity and a set, deleted at the end."""
    name = f"store-{uuid4().hex[:8]}"
    aml(f"feature-store create -n {name}")
    Path("entity.yml").write_text("index_columns: [{name: account, type: string}]\n")
    Path("set").mkdir()
    Path("set/FeatureSetSpec.yaml").write_text(SPECIFICATION)
    Path("set.yml").write_text("entities: [azureml:account:1]\nspecification: {path: set}\n")
    aml(f"feature-store-entity create -n account -f entity.yml -v 1 --feature-store-name {name}")
    aml(f"login --local -w {name}")  # files go up to the workspace one is in
    aml("feature-set create -n spent -f set.yml -v 1")
    aml(f"login --local -w {workspace}")
    yield f"--feature-store-name {name}"
    aml(f"feature-store delete -n {name} --yes")


def test_a_feature_store_has_entities_and_sets(aml, store):
    assert list(aml(f"feature-store-entity list {store}")["name"]) == ["account"]
    assert list(aml(f"feature-set list {store}")["name"]) == ["spent"]
    assert aml(f"feature-set show spent -v 1 {store}").entities == ["azureml:account:1"]
    assert list(aml(f"feature-set list-features spent -v 1 {store}")["name"]) == ["amount"]
    one = aml(f"feature-set show-feature spent -v 1 --feature-name amount {store}")
    assert (one.name, one.data_type.lower()) == ("amount", "float")
    aml(f"feature-store-entity archive account -v 1 --yes {store}")
    left = aml(f"feature-store-entity list -n account {store}")
    assert left.empty


def test_an_index_is_made_listed_and_shown(aml):
    Path("vectors").mkdir()
    Path("vectors/one.txt").write_text("1")
    aml("index create -n texts -v 1 --path vectors")
    assert list(aml("index list")["name"]) == ["texts"]
    assert aml("index show texts -v 1").version == "1"
