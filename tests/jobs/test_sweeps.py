"""Sweeps through the unmodified SDK: real trials that log their metric to the workspace."""

import json
import time

import pytest
from azure.ai.ml import Input, Output, command, dsl
from azure.ai.ml.entities import Environment, QueueSettings
from azure.ai.ml.sweep import BanditPolicy, Choice, Uniform

ENVIRONMENT = Environment(image="none.invalid/none")

# Logs values of the metric as MLflow's client does, whose import takes seconds.
LOG = """
log() {
  curl -sf -H "Authorization: Bearer $MLFLOW_TRACKING_TOKEN" -H 'Content-Type: application/json' \\
    -d "{\\"run_id\\": \\"$MLFLOW_RUN_ID\\", \\"key\\": \\"$1\\", \\"value\\": $2,
         \\"timestamp\\": $(date +%s%3N), \\"step\\": ${3:-0}}" \\
    "$MLFLOW_TRACKING_URI/api/2.0/mlflow/runs/log-metric" > /dev/null
}
"""


def trial(line, inputs=None, outputs=None, **options):
    return command(
        name=options.pop("name", "trial"),
        command=LOG + line,
        environment=ENVIRONMENT,
        inputs=inputs or {},
        outputs=outputs or {},
        compute="cpu",
        **options,
    )


def sweep(line, space, outputs=None, inputs=None, limits=None, **options):
    """A sweep over a line of shell that has the searched values as inputs."""
    given = {**(inputs or {}), **dict.fromkeys(space, 0)}
    made = trial(line, given, outputs)(**space)
    options = {
        "primary_metric": "acc",
        "goal": "maximize",
        "sampling_algorithm": "random",
    } | options
    job = made.sweep(**options)
    job.set_limits(**({"max_total_trials": 3, "max_concurrent_trials": 2} | (limits or {})))
    return job


def test_the_best_trial_is_told_with_its_parameters(client, connection, arm, run, children):
    from mlflow import MlflowClient

    job = run(sweep("log acc ${{inputs.x}}", {"x": Choice([1, 3, 2])}, sampling_algorithm="grid"))
    assert job.status == "Completed"
    names = [f"{job.name}_{i}" for i in range(3)]
    assert sorted(children(job)) == names
    assert job.properties["best_child_run_id"] == names[1]
    assert float(job.properties["score"]) == 3
    assert job.tags["_aml_system_max_total_jobs"] == "3"
    assert json.loads(job.tags[f"_aml_system_{names[1]}"]) == {"x": 3}
    assert json.loads(client.jobs.get(names[1]).tags["hyperparameters"]) == {"x": 3}
    trial = arm("GET", f"./jobs/{names[1]}").json()["properties"]
    assert trial["parameters"] == {"x": 3}
    assert trial["inputs"]["x"]["value"] == "3"
    tags = MlflowClient(connection.tracking_uri).get_run(names[1]).data.tags
    assert json.loads(tags["hyperparameters"]) == {"x": 3}
    assert (tags["mlflow.parentRunId"], tags["mlflow.rootRunId"]) == (job.name, job.name)


def test_what_happens_is_streamed(client, capsys):
    job = client.jobs.create_or_update(
        sweep("sleep 3; log acc 0.5", {"x": Uniform(0, 1)}, limits={"max_total_trials": 1})
    )
    client.jobs.stream(job.name)
    told = capsys.readouterr().out
    assert f'Scheduling job {job.name}_0: {{"x": 0.' in told
    assert f"{job.name}_0 Completed: acc 0.5" in told


def test_values_reach_the_command_and_its_variables(client, arm, run):
    line = 'test "$AZUREML_SWEEP_text" = "${{inputs.text}}" && log acc ${#AZUREML_SWEEP_shape}'
    shape = [{"depth": 2, "rate": Uniform(0.5, 0.5)}]
    job = run(
        sweep(line, {"text": Choice(["a b"]), "shape": Choice(shape)}, sampling_algorithm="random")
    )
    assert job.status == "Completed"
    assert float(job.properties["score"]) == len('{"depth": 2, "rate": 0.5}')


def test_bad_trials_do_not_end_a_sweep(run, children):
    lines = ["exit 3", "true", "log acc '\"NaN\"'", "log other 9", "log acc 0.25"]
    job = run(
        sweep(
            "${{inputs.line}}",
            {"line": Choice(lines)},
            sampling_algorithm="grid",
            limits={"max_total_trials": 10},
        )
    )
    assert job.status == "Completed"
    assert job.properties["best_child_run_id"] == f"{job.name}_4"
    statuses = [children(job)[f"{job.name}_{i}"].status for i in range(5)]
    assert statuses == ["Failed", *["Completed"] * 4]


def test_a_sweep_whose_trials_all_fail_fails_with_their_reason(run, why):
    job = run(sweep("echo out of luck >&2; exit 3", {"x": Uniform(0, 1)}))
    assert job.status == "Failed"
    assert "All 3 trials" in why(job)
    assert "out of luck" in why(job)


def test_a_metric_that_nobody_reports_is_named(client, run, tmp_path):
    job = run(sweep("log loss 1", {"x": Uniform(0, 1)}, limits={"max_total_trials": 1}))
    assert job.status == "Completed"
    assert "best_child_run_id" not in job.properties
    client.jobs.download(job.name, download_path=tmp_path)
    log = next(tmp_path.rglob("hyperdrive.txt")).read_text()
    assert "No trial has reported the primary metric acc, but loss." in log


def test_a_policy_cancels_a_trial_that_falls_behind(client, run, children, tmp_path):
    policy = BanditPolicy(slack_factor=0.1, evaluation_interval=2)
    line = "log acc ${{inputs.x}} 1; log acc ${{inputs.x}} 2; [ ${{inputs.x}} != 0.5 ] || sleep 600"
    job = run(
        sweep(
            line,
            {"x": Choice([0.9, 0.5, 0.95])},
            sampling_algorithm="grid",
            early_termination_policy=policy,
            limits={"max_concurrent_trials": 1},
        )
    )
    assert job.status == "Completed"
    statuses = [children(job)[f"{job.name}_{i}"].status for i in range(3)]
    assert statuses == ["Completed", "Canceled", "Completed"]
    assert job.properties["best_child_run_id"] == f"{job.name}_2"
    client.jobs.download(job.name, download_path=tmp_path)
    log = next(tmp_path.rglob("hyperdrive.txt")).read_text()
    told = "acc 0.5 at interval 2 is worse than 0.818182, a slack of 0.1"
    assert f"Policy Bandit cancels {job.name}_1: {told}" in log


def test_the_outputs_are_those_of_the_best_trial(client, run, read):
    line = "echo ${{inputs.x}} > ${{outputs.made}}/text; log acc ${{inputs.x}}"
    output = {"made": Output(type="uri_folder", name="tuned")}
    job = run(sweep(line, {"x": Choice([4, 7, 5])}, output, sampling_algorithm="grid"))
    assert read(job, "made", "text") == "7\n"
    (asset,) = client.data.list("tuned")
    assert asset.version == "1"
    assert f"{job.name}_1/made" in client.data.get("tuned", "1").path


def test_an_output_with_a_place_is_put_there(client, arm, run):
    place = "azureml://datastores/workspaceblobstore/paths/chosen"
    line = "echo ${{inputs.x}} > ${{outputs.made}}/text; log acc ${{inputs.x}}"
    output = {"made": Output(type="uri_folder", path=place)}
    job = run(sweep(line, {"x": Choice([4, 7, 5])}, output, sampling_algorithm="grid"))
    found = arm("GET", f"./jobs/{job.name}").json()["properties"]["outputs"]["made"]["uri"]
    assert found == place


def test_a_sweep_that_is_copied_from_another_is_its_own(client, run, read):
    line = "echo ${{inputs.x}} > ${{outputs.made}}/text; log acc ${{inputs.x}}"
    output = {"made": Output(type="uri_folder")}
    first = run(sweep(line, {"x": Choice([4, 7])}, output, sampling_algorithm="grid"))
    copy = client.jobs.get(first.name)
    copy.name = f"{first.name}-copy"
    copy.objective.goal = "minimize"
    again = run(copy)
    assert again.properties["best_child_run_id"] == f"{copy.name}_0"
    assert not any(first.name + "_" in tag for tag in again.tags)
    assert (read(again, "made"), read(first, "made")) == ("4\n", "7\n")


def test_cancelling_a_sweep_cancels_its_trials(client, ended, children):
    job = client.jobs.create_or_update(sweep("sleep 600", {"x": Uniform(0, 1)}))
    deadline = time.monotonic() + 60
    while len(children(job)) < 2:
        assert time.monotonic() < deadline
    client.jobs.begin_cancel(job.name).result()
    assert ended(job).status == "Canceled"
    assert {one.status for one in children(job).values()} == {"Canceled"}


def body(command="true", space=None, **more):
    """A sweep as it is sent, for what the SDK would not send."""
    return {
        "properties": {
            "jobType": "Sweep",
            "trial": {"command": command},
            "searchSpace": {"x": ["uniform", [0, 1]]} if space is None else space,
            "objective": {"goal": "minimize", "primaryMetric": "loss"},
            **more,
        }
    }


@pytest.mark.parametrize(
    ("limits", "status", "trial"),
    [({"timeout": "PT1S"}, "Canceled", "Canceled"), ({"trialTimeout": "PT1S"}, "Failed", "Failed")],
)
def test_limits_of_time(arm, client, ended, limits, status, trial):
    limits |= {"maxTotalTrials": 1}
    assert arm("PUT", "./jobs/late", body("sleep 600", limits=limits)).status_code == 201
    assert ended(client.jobs.get("late")).status == status
    assert client.jobs.get("late_0").status == trial


REFUSED = {
    "no search space": body(space={}),
    "no distribution": body(space={"x": ["gamma", [1, 2]]}),
    "needs min_value, max_value": body(space={"x": ["uniform", [1]]}),
    "not above max_value": body(space={"x": ["uniform", [2, 1]]}),
    "above 0": body(space={"x": ["randint", [0]]}),
    "a q above 0": body(space={"x": ["quniform", [0, 1, 0]]}),
    "no number": body(space={"x": ["normal", ["a", 1]]}),
    "not negative": body(space={"x": ["normal", [0, -1]]}),
    "list of values": body(space={"x": ["choice", ["ab"]]}),
    "objective": body(objective={"goal": "minimize"}),
    "all are choices": body(samplingAlgorithm={"samplingAlgorithmType": "Grid"}),
    "none of Azure's": body(samplingAlgorithm={"samplingAlgorithmType": "Guess"}),
    "logbase": body(samplingAlgorithm={"samplingAlgorithmType": "Random", "logbase": 0}),
    "maxTotalTrials": body(limits={"maxTotalTrials": "many"}),
    "ISO 8601": body(limits={"timeout": "soon"}),
    "none of Bandit": body(earlyTermination={"policyType": "Luck"}),
    "between 1 and 99": body(earlyTermination={"policyType": "TruncationSelection"}),
    "no command": body(command=" "),
    "search_space.y": body(command="echo ${{search_space.y}}"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_swept_is_refused(arm, words):
    answer = arm("PUT", "./jobs/refused", REFUSED[words])
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert arm("GET", "./jobs/refused").status_code == 404


def test_a_step_of_a_pipeline_can_be_a_sweep(run, children, read):
    tune = trial(
        "echo ${{inputs.word}} ${{inputs.x}} > ${{outputs.made}}/text; log acc ${{inputs.x}}",
        {"word": Input(type="string"), "x": Input(type="integer")},
        {"made": Output(type="uri_folder")},
    ).component
    use = trial(
        "cat ${{inputs.best}}/text > ${{outputs.made}}/text",
        {"best": Input(type="uri_folder")},
        {"made": Output(type="uri_folder")},
        name="use",
    ).component

    @dsl.pipeline(compute="cpu")
    def tuned(total: int, word: str = "best"):
        step = tune(word=word, x=Choice([1, 5, 3, 9])).sweep(
            primary_metric="acc", goal="maximize", sampling_algorithm="grid"
        )
        step.set_limits(max_total_trials=total, timeout=600)
        step.queue_settings = QueueSettings(job_tier="standard", priority="high")
        return {"all": use(best=step.outputs.made).outputs.made}

    job = run(tuned(total=3))
    assert job.status == "Completed"
    assert read(job, "all") == "best 5\n"
    (sweep,) = (c for name, c in children(job).items() if name == "step")
    assert len(children(sweep)) == 3
