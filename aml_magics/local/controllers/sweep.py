"""A sweep: jobs with sampled hyperparameters, begun while there are more, the worst ended early."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from aml_magics.local import outputs, submission, uris
from aml_magics.local.controllers import sampling, termination, trials
from aml_magics.local.controllers.run import (
    PATIENCE,
    TERMINAL,
    Canceled,
    Ended,
    Failed,
    Job,
    Parent,
)
from aml_magics.local.controllers.sampling import Past
from aml_magics.local.store import Body, now
from aml_magics.local.wire import ArmError

if TYPE_CHECKING:
    from aml_magics.local.app import Local

LOG = "azureml-logs/hyperdrive.txt"
AZURE_BAYESIAN = {"choice", "uniform", "quniform"}
LOOK = 0.5  # seconds between two looks at the metrics of running trials


class Trial(NamedTuple):
    """A trial; its score is the best value of the primary metric that it has reported."""

    number: int
    drawn: dict[str, float]
    status: str
    score: float | None = None

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def past(self) -> Past:
        """The trial as samplers see it: what failed says nothing, whatever it has reported."""
        return Past(self.drawn, self.is_over, None if self.status == "Failed" else self.score)


class SweepRun(Parent):
    """A sweep under way. All it knows of its trials is stored with them: none is begun twice."""

    def __init__(self, local: Local, job: Job) -> None:
        super().__init__(local, job)
        self._trials: dict[int, Trial] = {}
        self._is_exhausted = False
        self._curves: dict[int, list[float]] = {}  # reports of the primary metric
        self._looked: dict[int, int] = {}  # the interval at which the policy has looked last

    @cached_property
    def plan(self) -> trials.Plan:
        return trials.plan(self.job, self.row().properties)

    def work(self) -> None:
        self._resume()
        super().work()

    def advance(self) -> float:
        self._take_ends()
        left = self._seconds_left()
        if left <= 0:
            self._end_in_time()
        self._end_the_worst()
        self._begin()
        if not self._alive():
            self._finish()
        return min(left, LOOK if self.plan.policy else PATIENCE)

    # Where it stands

    def _resume(self) -> None:
        """Take up the trials that an earlier daemon began."""
        for row in reversed(self.children()):
            drawn = self.local.store.noted(row.id, "drawn")
            score = self.local.store.noted(row.id, "score")
            status = row.properties["status"] if score else "Running"
            number = int(row.name.rpartition("_")[2])
            self._trials[number] = Trial(number, drawn, status, *(score or ()))
        if not self._trials:
            self._say("API", "Experiment created")
            self._describe()

    def _describe(self) -> None:
        """Tell in tags and properties what the sweep is, in the service's words."""
        plan, asked = self.plan, self.row().properties
        goal = {"name": plan.metric, "goal": asked["objective"]["goal"].lower()}
        tags = {
            "max_concurrent_jobs": str(plan.concurrent),
            "max_total_jobs": str(plan.total),
            "max_duration_minutes": str(int(plan.timeout // 60)),
            "primary_metric_config": json.dumps(goal),
            "generator_config": json.dumps({"name": plan.sampling.kind.upper()}),
            "policy_config": json.dumps({"name": plan.policy.kind if plan.policy else "Default"}),
        }
        self._tag(tags)
        self._note({"primary_metric_config": json.dumps(goal), "runTemplate": "HyperDrive"})
        others = {kind for kind, _ in plan.space.values()} - AZURE_BAYESIAN
        if plan.sampling.kind == "bayesian" and others:
            message = f"Azure samples {', '.join(sorted(AZURE_BAYESIAN))} only in a Bayesian way"
            self._say("GENERATOR", f"{message}, not {', '.join(sorted(others))}.", "WARNING")

    def _alive(self) -> list[Trial]:
        return [trial for trial in self._trials.values() if not trial.is_over]

    def _name(self, number: int) -> str:
        return f"{self.job.name}_{number}"

    def _job(self, number: int) -> Job:
        return Job(self.job.ws, self._name(number))

    def _seconds_left(self) -> float:
        began = self.row().properties["properties"]["StartTimeUtc"]
        gone = datetime.now(UTC) - datetime.fromisoformat(began)
        return self.plan.timeout - gone.total_seconds()

    def _say(self, who: str, line: str, level: str = "INFO") -> None:
        self.say(LOG, f"[{now()[:23]}Z][{who}][{level}]{line}")

    def _tag(self, tags: dict[str, str]) -> None:
        named = {f"_aml_system_{key}": value for key, value in tags.items()}

        def change(job: Body) -> None:
            job["tags"] = {**(job.get("tags") or {}), **named}

        self.local.store.update(self.job.id, change)
        self.local.mlflow.change_run(self.job.ws, self.job.name, None, named)

    def _note(self, properties: dict[str, str]) -> None:
        def change(job: Body) -> None:
            job["properties"] = {**(job.get("properties") or {}), **properties}

        self.local.store.update(self.job.id, change)

    # Trials begin

    def _begin(self) -> None:
        while not self._is_exhausted and len(self._alive()) < self.plan.concurrent:
            self.check()
            number = max(self._trials, default=-1) + 1
            self._is_exhausted = number >= self.plan.total or not self._begin_trial(number)
            if self._is_exhausted:
                self._say("GENERATOR", f"All jobs generated: {len(self._trials)}.")

    def _begin_trial(self, number: int) -> bool:
        """Begin a trial; whether there are hyperparameters for one more."""
        past = [trial.past for trial in self._trials.values()]
        sample = sampling.sample(self.plan.space, self.plan.sampling, number, past)
        if sample is None:
            return False
        sweep, job = self.row(), self._job(number)
        parameters = json.dumps(sample.parameters)
        asked = trials.job_of(sweep.properties, sample)
        # First, so that no trial is without it; a daemon killed here samples the trial again.
        self._tag({job.name: parameters})
        self._say("SCHEDULER", f"Scheduling job {job.name}: {parameters}")
        try:
            submission.create(self.local, job, asked, sweep, drawn=sample.drawn)
        except ArmError as exc:
            raise Failed(f"Trial {job.name} could not be begun: {exc}") from exc
        self._trials[number] = Trial(number, sample.drawn, "Running")
        return True

    # Trials end

    def _take_ends(self) -> None:
        for trial in self._alive():
            row = self.local.store.get(self._job(trial.number).id)
            status = row.properties["status"] if row else "Canceled"
            if status in TERMINAL:
                self._take_end(trial._replace(status=status))

    def _take_end(self, trial: Trial) -> None:
        """Score a trial that has ended; what the log tells of it is told once."""
        curve = self._reports([trial.number])[trial.number]
        score = termination.best(curve, self.plan.sampling.maximizes)
        ended = self._trials[trial.number] = trial._replace(score=score)
        metric = self.plan.metric
        told = f"has not reported {metric}" if score is None else f"{metric} {score:.6g}"
        level = "WARNING" if trial.status == "Failed" or score is None else "INFO"
        self._say("CONTROLLER", f"{self._name(trial.number)} {trial.status}: {told}", level)
        self.local.store.note(self._job(trial.number).id, "score", [score])
        if self._best() == ended:
            self._note_best(ended)

    def _note_best(self, best: Trial) -> None:
        name = self._name(best.number)
        facts = {"best_child_run_id": name, "best_data_container_id": f"dcid.{name}"}
        self._note({**facts, "score": str(best.score), "best_metric_status": "Succeeded"})

    def _best(self) -> Trial | None:
        """The trial with the best score: of those that completed, if any did."""
        scored = [trial for trial in self._trials.values() if trial.past.score is not None]
        scored = [trial for trial in scored if trial.is_over]
        whole = [trial for trial in scored if trial.status == "Completed"] or scored
        sign = -1 if self.plan.sampling.maximizes else 1
        return min(whole, key=lambda trial: sign * (trial.score or 0.0), default=None)

    # Early termination

    def _reports(self, numbers: list[int]) -> dict[int, list[float]]:
        """What trials have reported of the primary metric."""
        names = {self._name(number): number for number in numbers}
        found = self.local.mlflow.histories(self.job.ws, list(names), self.plan.metric)
        return {number: found[name] for name, number in names.items()}

    def _end_the_worst(self) -> None:
        if self.plan.policy is None:
            return
        unknown = [n for n, trial in self._trials.items() if not trial.is_over]
        unknown += [n for n in self._trials if n not in self._curves]
        self._curves |= self._reports(sorted({*unknown}))
        for trial in self._alive():
            self._look_at(trial.number, self.plan.policy)

    def _look_at(self, number: int, policy: termination.Policy) -> None:
        at = termination.due(policy, len(self._curves[number]))
        if at <= self._looked.get(number, 0):
            return
        self._looked[number] = at
        others = [curve for other, curve in self._curves.items() if other != number]
        maximizes = self.plan.sampling.maximizes
        why = termination.verdict(policy, maximizes, self._curves[number], others, at)
        if why:
            name = self._name(number)
            self._say(
                "CONTROLLER", f"Policy {policy.kind} cancels {name}: {self.plan.metric} {why}"
            )
            self._looked[number] = sys.maxsize  # what it reports until it is gone says nothing
            self.local.jobs.cancel(self._job(number))

    # The end

    def _end_in_time(self) -> None:
        self._say("CONTROLLER", f"The sweep's time of {self.plan.timeout:.0f} s is up.", "WARNING")
        self.cancel_children()
        self._take_ends()
        self._take_outputs()
        raise Canceled

    def _finish(self) -> None:
        """End a sweep whose trials have all ended.

        Raises: Ended: always.
        """
        way = self._way()
        if way.status == "Completed":
            self._take_outputs()
        self._say("CONTROLLER", f"Changing Run Status from Running to {way.status}")
        raise way

    def _way(self) -> Ended:
        done = list(self._trials.values())
        if all(trial.status == "Failed" for trial in done):
            last = self._job(done[-1].number)
            error = self.local.store.noted(last.id, "error") or {}
            message = f"All {len(done)} trials of the sweep failed. {last.name}:"
            return Failed(f"{message} {error.get('message')}")
        best = self._best()
        if best is None:
            return self._without_best([self._name(trial.number) for trial in done])
        self._note_best(best)
        told = f"{self._name(best.number)}, {self.plan.metric} {best.score:.6g}"
        self._say("CONTROLLER", f"Best trial: {told}")
        return Ended()

    def _without_best(self, done: list[str]) -> Ended:
        """As on Azure no failure, unless later steps of a pipeline wait for outputs."""
        known = ", ".join(self.local.mlflow.metrics(self.job.ws, done)) or "nothing"
        message = f"No trial has reported the primary metric {self.plan.metric}, but {known}."
        self._say("CONTROLLER", message, "WARNING")
        row = self.row()
        is_waited_for = "/jobs/" in row.parent and set(row.properties["outputs"]) - {"default"}
        return Failed(message) if is_waited_for else Ended()

    def _take_outputs(self) -> None:
        """Give the sweep the outputs of its best trial; one that is to be in a place is copied."""
        best = self._best()
        row = best and self.local.store.get(self._job(best.number).id)
        if row is None:
            return
        made = {k: v["uri"] for k, v in row.properties["outputs"].items() if k != "default"}
        for name, output in self.row().properties["outputs"].items():
            if name in made and trials.has_place(output):
                self._copy(made[name], output["uri"])
                made[name] = output["uri"]

        def change(job: Body) -> None:
            for name, uri in made.items():
                job["outputs"][name]["uri"] = uri

        self.local.store.update(self.job.id, change)
        outputs.register(self.local, self.job.ws, self.row())

    def _copy(self, uri: str, to: str) -> None:
        source = uris.destination(self.local, self.job.ws, uri)
        place = uris.destination(self.local, self.job.ws, to)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        elif source.exists():
            shutil.copyfile(source, place)
