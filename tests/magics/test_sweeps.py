"""Sweeps at the prompt: from a cell, followed, their best trial in what is shown."""

from __future__ import annotations

import pytest

from aml_magics.errors import JobFailed

CELL = """
trial:
  command: >-
    curl -sf -H "Authorization: Bearer $MLFLOW_TRACKING_TOKEN" -H "Content-Type: application/json"
    -d "{\\"run_id\\": \\"$MLFLOW_RUN_ID\\", \\"key\\": \\"${{inputs.metric}}\\",
    \\"value\\": ${{search_space.depth}}, \\"timestamp\\": 1}"
    $MLFLOW_TRACKING_URI/api/2.0/mlflow/runs/log-metric
  environment: {image: none.invalid/none}
inputs: {metric: acc}
compute: azureml:cpu
sampling_algorithm: grid
search_space:
  depth: {type: choice, values: [2, 8, 4]}
  kind: {type: choice, values: [tree]}
objective: {goal: maximize, primary_metric: acc}
limits: {max_total_trials: 3, max_concurrent_trials: 2}
"""


def test_a_cell_is_a_sweep_whose_best_trial_is_told(aml, capsys):
    job = aml("sweep -n depths --experiment trees", CELL)
    told, error = capsys.readouterr()
    assert (job.status, error) == ("Completed", "")
    assert 'Scheduling job depths_1: {"depth": 8, "kind": "tree"}' in told
    best = {"name": "depths_1", "parameters": {"depth": 8, "kind": "tree"}, "score": 8.0}
    assert job.best_trial == best
    assert "depths_1: depth=8, kind=tree → acc=8" in repr(job)
    assert "depths_0 Completed, depths_1 Completed, depths_2 Completed" in repr(job)
    assert list(job.children.depth) == [2, 8, 4]
    shown = aml("job show depths")
    assert shown.best_trial == best
    assert "depths_1: depth=8" in shown._repr_html_()


def test_yaml_that_says_its_type_is_a_sweep_under_any_word(aml):
    job = aml("job -i metric=loss", f"type: sweep\n{CELL}")
    assert job.status == "Completed"
    assert job.best_trial is None
    assert "best trial  none: no trial has reported acc" in repr(job)


def test_a_sweep_whose_trials_fail_raises_with_their_reason(aml):
    with pytest.raises(JobFailed, match="All 3 trials of the sweep failed"):
        aml("sweep", CELL.replace("curl -sf", "exit 3;"))


@pytest.mark.parametrize(
    ("line", "cell", "words"),
    [
        ("sweep", "print(1)", "its YAML"),
        ("sweep", "type: command\ncommand: ls", "type command"),
        ("pipeline", f"type: sweep\n{CELL}", "type sweep"),
        ("sweep", "trial: [unclosed", "does not parse"),
        ("sweep", CELL.replace("maximize", "most"), "'most' is not one of"),
        ("sweep", None, "above a cell"),
        ("swep", CELL, "no command"),
    ],
)
def test_a_wrong_cell_is_refused(fails, line, cell, words):
    assert words in str(fails(line, cell))
