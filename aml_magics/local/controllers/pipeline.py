"""A pipeline: each step is a job, begun when the outputs it needs are there."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from aml_magics.local import external, submission
from aml_magics.local.controllers import control, gathering, graph
from aml_magics.local.controllers.control import Flow
from aml_magics.local.controllers.graph import Node, Scope
from aml_magics.local.controllers.run import PATIENCE, TERMINAL, Ended, Failed, Job, Parent
from aml_magics.local.controllers.steps import job_of
from aml_magics.local.store import Body, Resource, now
from aml_magics.local.wire import ArmError

if TYPE_CHECKING:
    from aml_magics.local.app import Local

LOG = "logs/azureml/executionlogs.txt"


class PipelineRun(Parent):
    """A pipeline under way. Names of child jobs follow from its own: none is begun twice."""

    def __init__(self, local: Local, job: Job) -> None:
        super().__init__(local, job)
        self._told: dict[str, str] = {}  # step → the status that the log tells

    def advance(self) -> float:
        job = self.row().properties
        nodes, spec = graph.pipeline(self.local, self.job.ws, job)
        jobs = {self._name(row): row for row in self.children()}
        self._tell(jobs)
        given = _given(job, spec)
        flow = Flow(nodes, jobs, self._control, given)
        done, steps = flow.done(), list(flow.steps())
        made = {name: self._made(flow, nodes[name]) for name in done}
        scope = Scope(given, job.get("outputs") or {}, made)
        failed = [name for name, row in jobs.items() if _is_lost(row)]
        goes_on = str((job.get("settings") or {}).get("continue_on_step_failure", True))
        if not failed or goes_on.lower() != "false":
            ready = [node for node in steps if node.name not in jobs and node.after <= done]
            begun = [self._begin(node, scope, job) for node in ready]
            if begun or any(row.properties["status"] not in TERMINAL for row in jobs.values()):
                return 0.0 if any(begun) else PATIENCE
        self._take_outputs(nodes, jobs)
        raise self._outcome(failed, jobs)

    # What the log tells

    def _tell(self, jobs: dict[str, Resource]) -> None:
        for name, row in jobs.items():
            status = row.properties["status"]
            if self._told.get(name) != status and status in TERMINAL:
                self._log(f"Step {name} ({row.name}): {status}")
                self._remember(row)
            self._told[name] = status

    def _log(self, line: str) -> None:
        self.say(LOG, f"[{now()[:19]}Z] {line}")

    def _outcome(self, failed: list[str], jobs: dict[str, Resource]) -> Ended:
        if not failed:
            return Ended()
        reasons = [self._reason_of(name, jobs[name]) for name in failed]
        message = f"Pipeline has some failed steps: {', '.join(sorted(failed))}."
        return Failed("\n".join([message, *reasons]))

    def _reason_of(self, name: str, row: Resource) -> str:
        error = self.local.store.noted(row.id, "error") or {}
        return f"{name} ({row.name}): {error.get('message') or row.properties['status']}"

    # Which steps begin

    def _name(self, row: Resource) -> str:
        return str(self.local.store.noted(row.id, "node"))

    def _made(self, flow: Flow, node: Node) -> Body:
        """The outputs of a node; those of the rounds of a parallel loop are gathered."""
        rounds = flow.rounds(node.name)
        if node.kind == "parallel_for":
            return gathering.gather(self.local, self.job, node.name, rounds)
        outputs = (rounds[-1].properties.get("outputs") or {}).items()
        return {name: self._told_value(rounds[-1], name, output) for name, output in outputs}

    def _told_value(self, step: Resource, name: str, output: Body) -> Body:
        if not output.get("isControl"):
            return output
        return {**output, "value": self._control(step, name).strip()}

    def _control(self, step: Resource, output: str) -> str:
        """The text of a control output."""
        told = json.loads(step.properties["properties"].get(control.PROPERTY) or "{}")
        if output in told:
            return str(told[output])
        place = (step.properties["outputs"].get(output) or {}).get("uri")
        path = external.destination(self.local, self.job.ws, place) if place else None
        return path.read_text("utf-8", "replace") if path and path.is_file() else ""

    def _begin(self, node: Node, scope: Scope, pipeline: Body) -> bool:
        """Make the job of a step, or take over an earlier one of the same step.

        Returns: whether it has ended already.
        """
        name = str(uuid5(NAMESPACE_URL, f"{self.job.id}/{node.name}".lower()))
        job = Job(self.job.ws, name)
        try:
            asked = job_of(node, scope, pipeline)
            fingerprint = self._fingerprint(node, asked)
            earlier = None if _forces_rerun(pipeline) else self._earlier(fingerprint)
            notes = {"node": node.name, "fingerprint": fingerprint}
            submission.create(self.local, job, asked, self.row(), reused=earlier, **notes)
        except ArmError as exc:
            raise Failed(f"Step {node.name} could not be begun: {exc}") from exc
        what = f"reuses the outputs of job {_original(earlier)}" if earlier else f"is job {name}"
        self._log(f"Step {node.name} {what}")
        return earlier is not None

    # Reuse

    def _fingerprint(self, node: Node, asked: Body) -> str:
        """What makes two steps do the same: all they are given, but no names; "" for never."""
        if not node.is_deterministic or node.kind == "pipeline":
            return ""
        same = {key: value for key, value in asked.items() if key not in _NAMES}
        return sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()

    def _remember(self, step: Resource) -> None:
        fingerprint = self.local.store.noted(step.id, "fingerprint")
        if fingerprint and step.properties["status"] == "Completed":
            self.local.store.note(f"{self.job.ws.id}/jobs", f"did {fingerprint}", step.name)

    def _earlier(self, fingerprint: str) -> Resource | None:
        """A completed step of another pipeline run that did the same; its outputs still there."""
        store, jobs = self.local.store, f"{self.job.ws.id}/jobs"
        name = store.noted(jobs, f"did {fingerprint}") if fingerprint else None
        row = store.get(f"{jobs}/{name}") if name else None
        if row is None or store.noted(row.id, "root") == store.noted(self.job.id, "root"):
            return None
        places = (output["uri"] for output in row.properties["outputs"].values())
        paths = [external.destination(self.local, self.job.ws, uri) for uri in places]
        return row if all(path.exists() for path in paths) else None

    # What the pipeline makes

    def _take_outputs(self, nodes: dict[str, Node], jobs: dict[str, Resource]) -> None:
        """An output of the pipeline is where the step that makes it has put it."""
        made = {}
        for name, row in jobs.items():
            node = nodes[name.partition("#")[0]]
            for output, given in (node.body.get("outputs") or {}).items():
                own = graph.bound_output(given)
                if own and output in row.properties["outputs"]:
                    made[own] = row.properties["outputs"][output]

        def change(job: Body) -> None:
            for name, output in made.items():
                asked = job["outputs"].get(name) or {}
                job["outputs"][name] = {**asked, **output}

        self.local.store.update(self.job.id, change)


# What two steps that do the same may differ in.
_NAMES = (
    *("componentId", "computeId", "description", "displayName", "experimentName"),
    *("properties", "queueSettings", "tags"),
)


def _given(job: Body, spec: Body) -> dict[str, Body]:
    """The inputs of a pipeline: what it was given, else what its component says."""
    defaults = {
        name: {"jobInputType": "literal", "value": str(about["default"])}
        for name, about in (spec.get("inputs") or {}).items()
        if about.get("default") is not None
    }
    return {**defaults, **(job.get("inputs") or {})}


def _original(reused: Resource) -> str:
    """The job that made the outputs of one that was itself taken over."""
    return str(reused.properties["properties"].get("azureml.reusedrunid") or reused.name)


def _forces_rerun(pipeline: Body) -> bool:
    return str((pipeline.get("settings") or {}).get("force_rerun", False)).lower() == "true"


def _is_lost(row: Resource) -> bool:
    return row.properties["status"] in ("Failed", "Canceled")
