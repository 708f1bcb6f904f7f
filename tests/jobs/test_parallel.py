"""Parallel steps of pipelines through the unmodified SDK, with real entry scripts."""

import textwrap
import time

import psutil
import pytest
from azure.ai.ml import Input, Output, dsl, load_job
from azure.ai.ml.entities import Environment
from azure.ai.ml.parallel import RunFunction, parallel_run_function

ENVIRONMENT = Environment(image="none.invalid/none")
NAMES = """
    from pathlib import Path

    def run(mini_batch):
        return [Path(path).name for path in mini_batch]
"""


@pytest.fixture
def numbers(tmp_path):
    """A folder of files 0.txt to 9.txt, each with its number."""
    folder = tmp_path / "numbers"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.txt").write_text(str(number))
    return folder


@pytest.fixture
def table(tmp_path):
    """A folder with an MLTable of two CSV files of four rows each."""
    folder = tmp_path / "table"
    folder.mkdir()
    for store in "ab":
        rows = "".join(f"{store},{number}\n" for number in range(4))
        (folder / f"{store}.csv").write_text("store,sold\n" + rows)
    (folder / "MLTable").write_text(
        "paths:\n  - pattern: ./*.csv\ntransformations:\n  - read_delimited: {delimiter: ','}\n"
    )
    return folder


@pytest.fixture
def parallel(tmp_path):
    """A pipeline of one parallel step that runs the lines of a script over some data."""
    code = tmp_path / "code"
    code.mkdir()

    def make(script, data, kind="uri_folder", arguments="", inputs=None, **settings):
        (code / "score.py").write_text(textwrap.dedent(script))
        task = RunFunction(
            code=str(code),
            entry_script="score.py",
            program_arguments=arguments,
            environment=ENVIRONMENT,
            append_row_to="${{outputs.rows}}",
        )
        step = parallel_run_function(
            name="score",
            inputs={"data": Input(type=kind), **(inputs or {})},
            outputs={"rows": Output(type="uri_file")},
            input_data="${{inputs.data}}",
            **{"instance_count": 1, "max_concurrency_per_instance": 2, **settings},
            task=task,
        )

        @dsl.pipeline(compute="cpu")
        def whole():
            scored = step(data=Input(type=kind, path=str(data)))
            return {"rows": scored.outputs.rows}

        return whole()

    return make


@pytest.fixture
def rows(read):
    return lambda job: read(job, "rows", "rows").splitlines()


def test_each_file_is_in_one_mini_batch(run, parallel, numbers, rows):
    job = run(parallel(NAMES, numbers, mini_batch_size="3"))
    assert job.status == "Completed"
    assert rows(job) == [f"{number}.txt" for number in range(10)]


def test_results_come_from_as_many_processes_as_were_asked_for(run, parallel, numbers, rows):
    script = """
        import os, time
        from pathlib import Path

        calls = 0

        def init():
            global calls
            calls += 1

        def run(mini_batch):
            global calls
            meeting = Path(os.environ["TMPDIR"] if "TMPDIR" in os.environ else "/tmp") / MEETING
            (meeting / str(os.getpid())).touch()
            while len(list(meeting.iterdir())) < 4:
                time.sleep(0.01)
            return [f"{os.getpid()} {calls}" for path in mini_batch]
    """
    meeting = numbers.parent / "meeting"
    meeting.mkdir()
    script = f'MEETING = r"{meeting}"\n' + textwrap.dedent(script)
    job = run(parallel(script, numbers, mini_batch_size="1", instance_count=2))
    pairs = [row.split() for row in rows(job)]
    assert len({pid for pid, _ in pairs}) == 4
    assert {calls for _, calls in pairs} == {"1"}  # init was called once in each process


def test_the_script_reads_its_arguments(run, parallel, numbers, rows):
    script = """
        import argparse

        def init():
            parser = argparse.ArgumentParser()
            parser.add_argument("--label")
            global label
            label = parser.parse_known_args()[0].label

        def run(mini_batch):
            return [label] * len(mini_batch)
    """
    inputs = {"label": Input(type="string", default="two words")}
    job = run(parallel(script, numbers, arguments="--label ${{inputs.label}}", inputs=inputs))
    assert set(rows(job)) == {"two words"}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("raise ValueError('an odd file')", "ValueError: an odd file"),
        ("os._exit(7)", "its process exited: 7"),
        ("os.kill(os.getpid(), 9)", "its process was killed by signal 9"),
        ("time.sleep(600)", "run() took more than 1 seconds"),
    ],
)
def test_a_mini_batch_that_fails_harms_nothing_else(
    what, reason, client, run, parallel, numbers, rows, children, tmp_path
):
    script = f"""
        import os, time
        from pathlib import Path

        def run(mini_batch):
            for path in mini_batch:
                if Path(path).name == "5.txt":
                    {what}
            return [Path(path).name for path in mini_batch]
    """
    retry = {"max_retries": 1, "timeout": 1}
    job = run(parallel(script, numbers, mini_batch_size="1", retry_settings=retry))
    assert job.status == "Completed"
    assert rows(job) == [f"{number}.txt" for number in range(10) if number != 5]
    step = children(job)["score"]
    client.jobs.download(step.name, download_path=tmp_path / "logs")
    log = (tmp_path / "logs" / "artifacts" / "logs" / "user" / "error.txt").read_text()
    assert log.count(reason) == 2  # the try and the one retry
    overview = tmp_path / "logs" / "artifacts" / "logs" / "job_progress_overview.txt"
    assert "10 mini-batches processed, 1 of them failed" in overview.read_text()


@pytest.mark.parametrize(
    ("settings", "arguments", "reason"),
    [
        ({"mini_batch_error_threshold": 1}, "", "mini_batch_error_threshold is 1"),
        ({"error_threshold": 3}, "", "error_threshold is 3"),
        ({}, "--error_threshold 3", "error_threshold is 3"),
        ({}, "--allowed_failed_percent 20", "allowed_failed_percent is 20"),
    ],
)
def test_too_many_failures_end_the_job(settings, arguments, reason, run, parallel, numbers, why):
    script = """
        def run(mini_batch):
            return [path for path in mini_batch if "9.txt" in path]
    """
    job = run(parallel(script, numbers, mini_batch_size="5", arguments=arguments, **settings))
    assert job.status == "Failed"
    assert reason in why(job)


def test_a_mini_batch_is_tried_again(run, parallel, numbers, rows):
    script = """
        from pathlib import Path

        def run(mini_batch):
            for path in map(Path, mini_batch):
                tried = Path(TRIED, path.name)
                if not tried.exists():
                    tried.touch()
                    raise RuntimeError("not yet")
            return [Path(path).name for path in mini_batch]
    """
    tried = numbers.parent / "tried"
    tried.mkdir()
    script = f"TRIED = {str(tried)!r}\n" + textwrap.dedent(script)
    retry = {"max_retries": 1, "timeout": 30}
    settings = {"mini_batch_error_threshold": 0, "retry_settings": retry}
    job = run(parallel(script, numbers, mini_batch_size="1", **settings))
    assert job.status == "Completed"
    assert rows(job) == [f"{number}.txt" for number in range(10)]


def test_settings_may_be_inputs_of_the_pipeline(run, tmp_path, numbers, why):
    (tmp_path / "few.py").write_text("def run(mini_batch):\n    return mini_batch[1:]\n")
    task = RunFunction(code=str(tmp_path / "few.py"), entry_script="few.py")
    task.environment = ENVIRONMENT
    step = parallel_run_function(
        name="few",
        inputs={"data": Input(type="uri_folder")},
        input_data="${{inputs.data}}",
        instance_count=1,
        task=task,
    )

    @dsl.pipeline(compute="cpu")
    def whole(most: int, data: Input):
        few = step(data=data)
        few.error_threshold = most

    data = Input(type="uri_folder", path=str(numbers))
    assert run(whole(1, data)).status == "Completed"
    assert "error_threshold is 0" in why(run(whole(0, data)))


def test_cancelling_ends_the_workers(client, ended, parallel, numbers):
    script = """
        import os, time
        from pathlib import Path

        def run(mini_batch):
            Path(PIDS, str(os.getpid())).touch()
            time.sleep(600)
    """
    pids = numbers.parent / "pids"
    pids.mkdir()
    script = f"PIDS = {str(pids)!r}\n" + textwrap.dedent(script)
    job = client.jobs.create_or_update(parallel(script, numbers, mini_batch_size="1"))
    deadline = time.monotonic() + 120
    while len(names := [path.name for path in pids.iterdir()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.jobs.begin_cancel(job.name).result()
    assert ended(job).status == "Canceled"
    assert not any(psutil.pid_exists(int(name)) for name in names)


def test_an_empty_input_fails_the_job(run, tmp_path, why):
    (tmp_path / "score.py").write_text(textwrap.dedent(NAMES))
    pipeline = tmp_path / "pipeline.yml"
    pipeline.write_text("""
type: pipeline
settings: {default_compute: azureml:cpu}
jobs:
  prepare:
    type: command
    command: echo nothing
    environment: {image: none.invalid/none}
    outputs: {files: {type: uri_folder}}
  score:
    type: parallel
    inputs: {files: {type: uri_folder, path: "${{parent.jobs.prepare.outputs.files}}"}}
    outputs: {rows: {type: uri_file}}
    input_data: ${{inputs.files}}
    mini_batch_size: "1"
    resources: {instance_count: 1}
    task:
      type: run_function
      code: .
      entry_script: score.py
      environment: {image: none.invalid/none}
""")
    job = run(load_job(pipeline))
    assert job.status == "Failed"
    assert "Its input is empty" in why(job)


@pytest.mark.parametrize(
    ("init", "arguments", "reason"),
    [
        ("raise RuntimeError('the model is not there')", "", "the model is not there"),
        ("os._exit(5)", "", "Workers end before init() does: its process exited: 5"),
        ("time.sleep(600)", "--task_overhead_timeout 1", "init() took more than 1 seconds"),
    ],
)
def test_an_init_that_fails_ends_the_job_with_its_reason(
    init, arguments, reason, run, parallel, numbers, why
):
    script = f"""
        import os, time

        def init():
            {init}

        def run(mini_batch):
            return mini_batch
    """
    retry = {"max_retries": 0, "timeout": 30}
    job = run(parallel(script, numbers, arguments=arguments, retry_settings=retry))
    assert job.status == "Failed"
    assert reason in why(job)


def test_a_table_is_cut_by_bytes_into_data_frames(run, parallel, table, rows):
    script = """
        def run(mini_batch):
            mini_batch["rows"] = len(mini_batch)
            return mini_batch
    """
    job = run(parallel(script, table, "mltable", mini_batch_size="20"))
    assert [row.split() for row in rows(job)] == [
        [store, str(number), "2"] for store in "ab" for number in range(4)
    ]


def test_a_table_is_cut_by_its_partition_keys(run, parallel, table, rows):
    script = """
        def run(mini_batch, mini_batch_context):
            keys = mini_batch_context.partition_key_value
            return [f"{keys['store']} {mini_batch['sold'].sum()}"]
    """
    job = run(parallel(script, table, "mltable", partition_keys=["store"], error_threshold=0))
    assert rows(job) == ["a 6", "b 6"]


def test_a_script_logs_through_azures_helper(client, run, parallel, numbers, children, tmp_path):
    script = """
        from azureml_user.parallel_run import EntryScript

        def init():
            EntryScript().logger.info("init has begun")

        def run(mini_batch):
            print("so many:", len(mini_batch))
            return mini_batch

        def shutdown():
            print("all done")
    """
    settings = {"max_concurrency_per_instance": 1, "logging_level": "DEBUG"}
    step = children(run(parallel(script, numbers, **settings)))["score"]
    client.jobs.download(step.name, download_path=tmp_path / "logs")
    logs = tmp_path / "logs" / "artifacts" / "logs" / "user"
    log = (logs / "entry_script_log" / "0" / "process000.log.txt").read_text()
    assert "init has begun" in log
    out = (logs / "stdout" / "0" / "process000.stdout.txt").read_text()
    assert out == "so many: 10\nall done\n"


def test_a_step_of_a_pipeline_file_takes_its_data_from_a_step_before(run, tmp_path, read):
    (tmp_path / "score.py").write_text(textwrap.dedent(NAMES))
    pipeline = tmp_path / "pipeline.yml"
    pipeline.write_text("""
type: pipeline
settings: {default_compute: azureml:cpu}
outputs: {rows: {type: uri_file}}
inputs: {size: "2"}
jobs:
  prepare:
    type: command
    command: touch ${{outputs.files}}/a ${{outputs.files}}/b ${{outputs.files}}/c
    environment: {image: none.invalid/none}
    outputs: {files: {type: uri_folder}}
  score:
    type: parallel
    inputs: {files: {type: uri_folder, path: "${{parent.jobs.prepare.outputs.files}}"}}
    outputs: {rows: "${{parent.outputs.rows}}"}
    input_data: ${{inputs.files}}
    mini_batch_size: "2"
    mini_batch_error_threshold: 0
    max_concurrency_per_instance: 1
    resources: {instance_count: 1}
    environment_variables: {COLOUR: green}
    task:
      type: run_function
      code: .
      entry_script: score.py
      environment: {image: none.invalid/none}
      append_row_to: ${{outputs.rows}}
""")
    job = run(load_job(pipeline))
    assert job.status == "Completed"
    assert read(job, "rows", "rows").split() == ["a", "b", "c"]
