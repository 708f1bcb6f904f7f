"""Components through the unmodified SDK: every kind made, read back, listed, archived."""

import pytest
from azure.ai.ml import Input, dsl, load_component
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

COMMAND = """
name: train
display_name: Train
type: command
tags: {team: a}
inputs:
  rows: {type: uri_file, optional: true}
  depth: {type: integer, default: 3, min: 1, max: 9}
  rate: {type: number, default: 10.99}
  fast: {type: boolean, default: true}
  mode: {type: string, enum: [x, y], default: x}
outputs:
  model: {type: uri_folder}
code: src
environment: {image: none.invalid/none}
command: >-
  python main.py --depth ${{inputs.depth}} $[[--rows ${{inputs.rows}}]] --to ${{outputs.model}}
resources: {instance_count: 2}
distribution: {type: mpi, process_count_per_instance: 2}
"""
PARALLEL = """
name: score
type: parallel
inputs: {rows: {type: mltable}}
outputs: {scores: {type: uri_file}}
input_data: ${{inputs.rows}}
mini_batch_size: "10"
resources: {instance_count: 2}
max_concurrency_per_instance: 2
task:
  type: run_function
  code: src
  entry_script: main.py
  environment: {image: none.invalid/none}
  append_row_to: ${{outputs.scores}}
"""
SPARK = """
name: clean
type: spark
inputs: {rows: {type: uri_file, mode: direct}}
outputs: {cleaned: {type: uri_folder, mode: direct}}
code: src
entry: {file: main.py}
args: --in ${{inputs.rows}} --out ${{outputs.cleaned}}
conf:
  spark.driver.cores: 1
  spark.driver.memory: 2g
  spark.executor.cores: 1
  spark.executor.memory: 2g
  spark.executor.instances: 1
"""
PIPELINE = """
name: all
type: pipeline
inputs: {rows: {type: uri_file}}
outputs: {model: {type: uri_folder}}
jobs:
  train:
    type: command
    component: ./command.yml
    inputs: {rows: "${{parent.inputs.rows}}", depth: 5}
    outputs: {model: "${{parent.outputs.model}}"}
  tune:
    type: sweep
    trial: ./command.yml
    sampling_algorithm: random
    objective: {goal: maximize, primary_metric: auc}
    search_space: {rate: {type: uniform, min_value: 0.1, max_value: 0.9}}
    limits: {max_total_trials: 2, max_concurrent_trials: 2}
    inputs: {rows: "${{parent.inputs.rows}}"}
"""
KINDS = {"command": COMMAND, "parallel": PARALLEL, "spark": SPARK, "pipeline": PIPELINE}


@pytest.fixture
def load(tmp_path):
    """Load a component of a kind from YAML beside its code."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("print(1)\n")
    for kind, text in KINDS.items():
        (tmp_path / f"{kind}.yml").write_text(text)

    def call(kind="command", **overrides):
        changes = [{key: value} for key, value in overrides.items()]
        return load_component(tmp_path / f"{kind}.yml", params_override=changes)

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_a_component_of_each_kind_comes_back(client, load, kind):
    asked = load(kind)
    made = client.components.create_or_update(asked)
    found = client.components.get(made.name, version=made.version)
    assert (found.name, found.version, found.type) == (asked.name, "1", kind)
    assert set(found.inputs) == set(asked.inputs)
    assert found._to_dict() == made._to_dict()


def test_scalars_are_stored_as_text(client, load):
    inputs = client.components.create_or_update(load()).inputs
    kept = [inputs[name]["default"] for name in ("depth", "rate", "fast")]
    assert [str(value) for value in kept] == ["3", "10.99", "True"]
    spec = client.components._version_operation.get(
        client.resource_group_name, client.workspace_name, "train", "1"
    ).properties.component_spec
    assert (spec["is_deterministic"], spec["inputs"]["rate"]["default"]) == ("True", "10.99")


def test_versions_count_up_and_the_last_is_the_default(client, load):
    assert [client.components.create_or_update(load()).version for _ in range(2)] == ["1", "2"]
    assert client.components.get("train").version == "2"
    assert client.components.get("train", label="latest").version == "2"
    assert [found.version for found in client.components.list("train")] == ["2", "1"]
    assert [found.name for found in client.components.list()] == ["train"]


def test_an_unchanged_component_needs_no_new_version(client, load):
    client.components.create_or_update(load())
    again = client.components.create_or_update(load(), skip_if_no_change=True)
    assert again.version == "1"


def test_what_a_component_does_is_immutable(client, load):
    client.components.create_or_update(load(version="7"))
    changed = client.components.create_or_update(load(version="7", description="Trains."))
    assert changed.description == "Trains."
    with pytest.raises(HttpResponseError, match=r'field "command" is immutable') as caught:
        client.components.create_or_update(load(version="7", command="python main.py"))
    assert caught.value.status_code == 400


def test_a_component_without_a_name_is_known_by_its_content(client, load):
    made = [client.components.create_or_update(load(), is_anonymous=True) for _ in range(2)]
    other = client.components.create_or_update(load(display_name="Other"), is_anonymous=True)
    assert made[0].id == made[1].id != other.id
    assert len(made[0].version) == 36
    assert list(client.components.list()) == []


@pytest.mark.parametrize("version", ["1", None])
def test_an_archived_component_is_not_listed_until_restored(client, load, version):
    client.components.create_or_update(load())
    client.components.archive("train", version=version)
    name = "train" if version else None
    assert list(client.components.list(name)) == []
    client.components.restore("train", version=version)
    assert len(list(client.components.list(name))) == 1


def test_a_pipeline_in_python_becomes_a_component(client, load):
    train = client.components.create_or_update(load())

    @dsl.pipeline(name="whole", description="All of it.")
    def whole(rows: Input(type="uri_file"), depth: int = 2):
        return {"model": train(rows=rows, depth=depth).outputs.model}

    made = client.components.create_or_update(whole)
    assert client.components.get("whole").inputs["depth"]["default"] in (2, "2")
    assert made.outputs["model"]["type"] == "uri_folder"


def test_the_code_of_a_component_can_be_downloaded(client, load, tmp_path):
    client.components.create_or_update(load())
    folder = tmp_path / "got"
    client.components.download("train", folder, version="1")
    assert (folder / "component_spec.yaml").is_file()
    assert list(folder.rglob("main.py"))


def test_a_component_that_is_not_there(client):
    for options in ({}, {"version": "1"}):
        with pytest.raises(ResourceNotFoundError, match="Not found component nothing"):
            client.components.get("nothing", **options)


@pytest.mark.parametrize("command", ["python main.py", "echo 1"])
def test_a_component_is_validated_by_the_workspace(client, load, command):
    client.components.create_or_update(load(version="7", command="python main.py"))
    asked = load(version="7", command=command)
    asked.code, asked.environment = (
        getattr(client.components.get("train", version="7"), key) for key in ("code", "environment")
    )
    result = client.components.validate(asked, skip_remote_validation=False)
    assert result.passed == (command == "python main.py")
    assert result.passed or "is immutable" in str(result)
