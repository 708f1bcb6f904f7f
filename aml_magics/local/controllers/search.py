"""Automated machine learning: one process searches, and each of its trials is a child job."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aml_magics.local import processes, submission, uris
from aml_magics.local.controllers.automl import LOG
from aml_magics.local.controllers.command import CommandRun
from aml_magics.local.controllers.run import Job
from aml_magics.local.drivers import automl
from aml_magics.local.store import Body

LOOK = 1.0  # seconds between looks at what the process has tried
BEST = "automl_best_child_run_id"  # the tag that clients find the best trial by


class AutoMLRun(CommandRun):
    """A search under way. What it has tried is in a file of the job's folder, one line a trial:
    a new daemon reads on, and no child job is made twice."""

    def _ended(self, handle: processes.Handle, timeout: float | None) -> bool:
        while not handle.wait(LOOK):
            self._take_trials()
        return True

    def _keep_outputs(self) -> None:
        super()._keep_outputs()
        best = self._take_trials()
        if best:
            self._take_best(best)

    def _take_trials(self) -> Body:
        """Make a child job of every new trial; {} until the search has said which is best."""
        best: Body = {}
        job = self.row()
        for line in _lines(self._folder / LOG):
            if "learner" in line:
                name = f"{self.job.name}_{line['record_id']}"
                if not self.local.store.noted(Job(self.job.ws, name).id, "logged"):
                    self._take_trial(job.properties, name, line)
            best = line if "best" in line else best
        return best

    def _take_trial(self, job: Body, name: str, line: Body) -> None:
        child = Job(self.job.ws, name)
        algorithm = automl.NAMES.get(line["learner"], line["learner"])
        metric = job["taskDetails"].get("primaryMetric")
        asked = {
            "jobType": "Command",
            "command": f"automl trial: {algorithm}",
            "displayName": name,
            "experimentName": job["experimentName"],
            "computeId": job["computeId"],
            "properties": {
                "runTemplate": "automl_child",
                "run_algorithm": algorithm,
                "iteration": str(line["record_id"]),
                "primary_metric": str(metric),
                "score": str(_score(metric, line["logged_metric"])),
            },
        }
        if self.local.store.get(child.id) is None:
            parent = self.row()
            submission.create(self.local, child, asked, parent, ended="Completed")
        self.local.mlflow.log(child.ws, name, _known(line["logged_metric"]), line["config"])
        self.local.store.note(child.id, "logged", True)

    def _take_best(self, best: Body) -> None:
        """Put the model and its metrics where clients look for them."""
        ws, name = self.job.ws, f"{self.job.name}_{best['best']}"
        source = self.artifacts / "outputs"
        target = uris.artifacts(self.local, ws, name) / "outputs"
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        trial = next(
            line for line in _lines(self._folder / LOG) if line.get("record_id") == best["best"]
        )
        tests = {f"test_{key}": value for key, value in _known(best["test"]).items()}
        metrics = {**_known(trial["logged_metric"]), **tests}
        self.local.mlflow.log(ws, self.job.name, metrics, {})
        self.local.mlflow.log(ws, name, tests, {})
        self.local.mlflow.change_run(ws, self.job.name, None, {BEST: name})

        def change(job: Body) -> None:
            job["tags"] = {**(job.get("tags") or {}), BEST: name}
            facts = {"task_type": best["kind"], "primary_metric": best["metric"]}
            job["properties"] = {**(job.get("properties") or {}), **facts}

        self.local.store.update(self.job.id, change)


def _lines(path: Path) -> Iterator[Body]:
    """The whole lines of a log that another process writes."""
    if path.exists():
        for line in path.read_text("utf-8").split("\n")[:-1]:
            yield json.loads(line)


def _known(metrics: Body) -> dict[str, float]:
    """The metrics that have a value."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _score(metric: Any, metrics: Body) -> float | None:
    plain = str(metric).replace("_", "").lower()
    return next((v for name, v in metrics.items() if name.replace("_", "").lower() == plain), None)
