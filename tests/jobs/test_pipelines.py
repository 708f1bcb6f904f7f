"""Pipelines through the unmodified SDK, their steps really run."""

import time

import pytest
from azure.ai.ml import Input, Output, command, dsl, load_job
from azure.ai.ml.entities import Environment

ENVIRONMENT = Environment(image="none.invalid/none")


def component(line, inputs=None, outputs=None, **options):
    """A command component that runs a line of shell."""
    return command(
        name=options.pop("name", "step"),
        command=line,
        environment=ENVIRONMENT,
        inputs=inputs or {},
        outputs=outputs or {},
        compute="cpu",
        **options,
    ).component


def write(**inputs):
    return component(
        "echo ${{inputs.text}} > ${{outputs.made}}/text",
        {"text": Input(type="string")},
        {"made": Output(type="uri_folder")},
        name="write",
    )(**inputs)


def append(**inputs):
    return component(
        "cat ${{inputs.before}}/text > ${{outputs.made}}/text && echo ${{inputs.text}} >> "
        "${{outputs.made}}/text",
        {"before": Input(type="uri_folder"), "text": Input(type="string", default="more")},
        {"made": Output(type="uri_folder")},
        name="append",
    )(**inputs)


def fail():
    return component("echo it went wrong >&2; exit 3", name="fail")()


@dsl.pipeline(compute="cpu")
def chain(text: str):
    first = write(text=text)
    second = append(before=first.outputs.made)
    return {"all": second.outputs.made}


def test_steps_pass_their_outputs_on(run, children, read):
    job = run(chain(text="hello"))
    assert job.status == "Completed"
    assert read(job, "all") == "hello\nmore\n"
    steps = children(job)
    assert {name: step.status for name, step in steps.items()} == {
        "first": "Completed",
        "second": "Completed",
    }


def test_a_step_has_its_lineage_in_mlflow(connection, run, children):
    from mlflow import MlflowClient

    job = run(chain(text="lineage"))
    step = children(job)["first"]
    tags = MlflowClient(connection.tracking_uri).get_run(step.name).data.tags
    assert (tags["mlflow.parentRunId"], tags["mlflow.rootRunId"]) == (job.name, job.name)
    assert tags["mlflow.runName"] == "first"


def test_steps_are_listed_with_their_pipeline_only(client, run, children):
    job = run(chain(text="listed"))
    assert [found.name for found in client.jobs.list()] == [job.name]
    assert len(children(job)) == 2


def test_an_unchanged_step_is_taken_from_the_earlier_run(run, children, read):
    first = run(chain(text="same"))
    before = {name: step.name for name, step in children(first).items()}
    again = run(chain(text="same"))
    for name, step in children(again).items():
        assert step.properties["azureml.isreused"] == "true"
        assert step.properties["azureml.reusedrunid"] == before[name]
    assert read(again, "all") == "same\nmore\n"


def test_reuse_can_be_refused(run, children):
    run(chain(text="forced"))
    job = chain(text="forced")
    job.settings.force_rerun = True
    for step in children(run(job)).values():
        assert "azureml.isreused" not in step.properties


def test_a_changed_step_runs_and_so_do_those_after_it(run, children):
    run(chain(text="one"))
    for step in children(run(chain(text="two"))).values():
        assert "azureml.isreused" not in step.properties


def test_a_failed_step_fails_the_pipeline_with_its_reason(client, run, children):
    @dsl.pipeline(compute="cpu")
    def whole():
        fail()
        write(text="beside")

    job = run(whole())
    assert job.status == "Failed"
    steps = children(job)
    assert steps["fail"].status == "Failed"
    assert steps["write"].status == "Completed"
    with pytest.raises(Exception, match="it went wrong"):
        client.jobs.stream(job.name)


def test_what_needs_a_failed_step_is_not_begun(run, children):
    broken = component("exit 1", outputs={"made": Output(type="uri_folder")}, name="broken")

    @dsl.pipeline(compute="cpu")
    def whole():
        append(before=broken().outputs.made)

    job = run(whole())
    assert job.status == "Failed"
    assert set(children(job)) == {"broken"}


def test_other_steps_end_when_one_failed_and_that_was_asked_for(run, children):
    long = component("sleep 60", name="long")

    @dsl.pipeline(compute="cpu")
    def whole():
        long()
        fail()

    job = whole()
    job.settings.continue_on_step_failure = False
    job = run(job, 60)
    assert job.status == "Failed"
    assert children(job)["long"].status == "Canceled"


def test_a_pipeline_is_cancelled_with_its_steps(client, ended, children):
    long = component("sleep 60", name="long")

    @dsl.pipeline(compute="cpu")
    def whole():
        long()

    job = client.jobs.create_or_update(whole())
    while not children(job):
        time.sleep(0.05)
    client.jobs.begin_cancel(job.name).result()
    assert ended(job).status == "Canceled"
    assert children(job)["long"].status == "Canceled"


def test_pipelines_nest(client, run, children, read):
    @dsl.pipeline
    def inner(text: str):
        return {"made": write(text=text).outputs.made}

    @dsl.pipeline(compute="cpu")
    def outer(text: str):
        nested = inner(text=text)
        last = append(before=nested.outputs.made)
        return {"all": last.outputs.made}

    job = run(outer(text="deep"))
    assert job.status == "Completed"
    assert read(job, "all") == "deep\nmore\n"
    inner_job = children(job)["nested"]
    assert [c.display_name for c in client.jobs.list(parent_job_name=inner_job.name)] == ["write"]


def test_a_registered_component_is_a_step(client, tmp_path, run):
    client.components.create_or_update(write().component, version="1")
    (tmp_path / "job.yml").write_text(
        """
type: pipeline
inputs: {text: from yaml}
outputs: {made: {type: uri_folder, name: made-by-pipeline}}
settings: {default_compute: azureml:cpu}
jobs:
  step:
    type: command
    component: azureml:write:1
    inputs: {text: "${{parent.inputs.text}}"}
    outputs: {made: "${{parent.outputs.made}}"}
"""
    )
    job = run(load_job(tmp_path / "job.yml"))
    assert job.status == "Completed"
    asset = client.data.get("made-by-pipeline", version="1")
    assert asset.type == "uri_folder"
    assert job.outputs["made"].name == "made-by-pipeline"


def test_a_registered_pipeline_is_a_job(client, tmp_path, run, children):
    made = client.components.create_or_update(chain, version="3")
    (tmp_path / "job.yml").write_text(
        f"type: pipeline\ncomponent: azureml:{made.name}:3\ninputs: {{text: whole}}\n"
        "settings: {default_compute: azureml:cpu}\n"
    )
    job = run(load_job(tmp_path / "job.yml"))
    assert job.status == "Completed"
    assert len(children(job)) == 2


def test_independent_steps_run_side_by_side(tmp_path, run):
    meet = component(
        f"touch {tmp_path}/${{{{inputs.me}}}}; until [ -e {tmp_path}/${{{{inputs.other}}}} ]; "
        "do sleep 0.05; done",
        {"me": Input(type="string"), "other": Input(type="string")},
        name="meet",
    )

    @dsl.pipeline(compute="cpu")
    def whole():
        meet(me="a", other="b")
        meet(me="b", other="a")

    assert run(whole(), 60).status == "Completed"


def test_an_unknown_component_is_refused_by_name(arm):
    node = {"type": "command", "componentId": "/x/components/nothing/versions/1"}
    body = {"properties": {"jobType": "Pipeline", "jobs": {"a": node}}}
    answer = arm("PUT", "./jobs/p1", body)
    assert answer.status_code == 404
    assert "Not found component nothing:1" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"text": "${{parent.inputs.gone}}"}, "no input gone"),
        ({"text": "${{parent.jobs.gone.outputs.made}}"}, "no step gone"),
        ({"text": "${{parent.name}}"}, "Invalid expression parent.name"),
        ({"other": "x", "text": "y"}, "input other for component job step does not exist"),
    ],
)
def test_a_wrong_binding_is_refused_before_anything_runs(client, arm, inputs, message):
    made = client.components.create_or_update(write().component, version="1")
    node = {"type": "command", "componentId": made.id, "inputs": inputs}
    answer = arm(
        "PUT", "./jobs/p1", {"properties": {"jobType": "Pipeline", "jobs": {"step": node}}}
    )
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert list(client.jobs.list()) == []
