"""Control nodes of a pipeline: which steps an if_else opens, and the rounds of a loop's body.

A control output is a file whose text is the value; `azureml.pipeline.control`, a property of the
step's run with a JSON mapping, says it too, as on Azure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aml_magics.local.controllers import graph
from aml_magics.local.controllers.graph import Node
from aml_magics.local.controllers.run import Failed
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import bad_request

MOST_ROUNDS = 1000  # of a loop that names no limit
PROPERTY = "azureml.pipeline.control"
Value = Callable[[Resource, str], str]  # the text of an output of a step


class Flow:
    """What may run now, given the steps that were begun.

    Args: jobs: child jobs by step name; value: reads a control output; given: the pipeline's
        literal inputs.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        jobs: Mapping[str, Resource],
        value: Value,
        given: Mapping[str, Body],
    ) -> None:
        self._nodes, self._jobs, self._value, self._given = nodes, jobs, value, given
        controls = [node for node in nodes.values() if node.kind in graph.CONTROL]
        self._loops = {_named(c.body["body"]): c for c in controls if c.kind != "if_else"}
        self._gates = [control for control in controls if control.kind == "if_else"]

    def steps(self) -> Iterator[Node]:
        """Every step that is to run, whether it has begun or not."""
        for name, node in self._nodes.items():
            if name in self._loops:
                yield from self._rounds(name)
            elif node.kind not in graph.CONTROL and self._is_open(name):
                yield node

    def done(self) -> set[str]:
        """Nodes whose outputs are final."""
        plain = {name for name in self._nodes if self._is_done(name) and name not in self._loops}
        for body, loop in self._loops.items():
            rounds = list(self._rounds(body))
            if rounds and all(self._is_done(node.name) for node in rounds):
                plain |= {body, loop.name}
        return plain

    def rounds(self, node: str) -> list[Resource]:
        """The jobs of a node: one, or one for each round of a loop."""
        bodies = [body for body, loop in self._loops.items() if node in (body, loop.name)]
        names = [step.name for body in bodies for step in self._rounds(body)] or [node]
        return [self._jobs[name] for name in names if name in self._jobs]

    def _is_done(self, step: str) -> bool:
        job = self._jobs.get(step)
        return job is not None and job.properties["status"] == "Completed"

    def _is_open(self, name: str) -> bool:
        """Whether every condition that the step is under holds."""
        for gate in self._gates:
            for block, wanted in (("true_block", True), ("false_block", False)):
                blocks = gate.body.get(block) or []
                listed = blocks if isinstance(blocks, list) else [blocks]
                if name in map(_named, listed) and self._holds(gate.body["condition"]) != wanted:
                    return False
        return True

    def _holds(self, condition: Any) -> bool | None:
        """Whether a condition is true; None while that is not known."""
        paths = list(graph.references(condition))
        if not paths:
            return str(condition).lower() == "true"
        text = self._text(paths[0])
        return None if text is None else text.strip().lower() == "true"

    def _text(self, path: str) -> str | None:
        head, _, rest = path.partition(".")
        if head == "inputs":
            return str((self._given.get(rest) or {}).get("value", ""))
        node, _, output = rest.partition(".outputs.")
        jobs = self.rounds(node) if node in self.done() else []
        return self._value(jobs[-1], output) if jobs else None

    def _rounds(self, body: str) -> Iterator[Node]:
        loop, node = self._loops[body], self._nodes[body]
        return self._each(loop, node) if loop.kind == "parallel_for" else self._while(loop, node)

    def _each(self, loop: Node, node: Node) -> Iterator[Node]:
        for number, item in enumerate(self._items(loop)):
            inputs = {**(node.body.get("inputs") or {}), **item}
            body = {**node.body, "inputs": inputs, "display_name": f"{node.name}#{number}"}
            yield node._replace(name=f"{node.name}#{number}", body=body)

    def _items(self, loop: Node) -> list[Body]:
        asked = loop.body["items"]
        paths = list(graph.references(asked)) if not str(asked).lstrip().startswith("[") else []
        text = self._text(paths[0]) if paths else asked
        if text is None:
            return []
        try:
            items = json.loads(text) if isinstance(text, str) else text
        except ValueError as exc:
            raise Failed(f"The items of {loop.name} are no JSON: {text[:80]}") from exc
        return list(items.values() if isinstance(items, dict) else items)

    def _while(self, loop: Node, node: Node) -> Iterator[Node]:
        condition = str(loop.body["condition"]).rpartition(".outputs.")[2].rstrip("} ")
        limit = (loop.body.get("limits") or {}).get("max_iteration_count") or MOST_ROUNDS
        for number in range(int(limit)):
            if number:
                node = self._next(loop, node, number)
            yield node
            if not self._is_done(node.name):
                return
            if self._value(self._jobs[node.name], condition).strip().lower() != "true":
                return

    def _next(self, loop: Node, node: Node, number: int) -> Node:
        """The next round, with the outputs of the last one as the mapping says."""
        last, inputs = self._jobs[node.name], dict(node.body.get("inputs") or {})
        for output, names in (loop.body.get("mapping") or {}).items():
            name = output.rpartition(".outputs.")[2].rstrip("} ")
            for target in names if isinstance(names, list) else [names]:
                inputs[target] = self._passed(last, name)
        name = f"{node.name.partition('#')[0]}#{number}"
        body = {**node.body, "inputs": inputs, "display_name": name}
        return node._replace(name=name, body=body)

    def _passed(self, last: Resource, output: str) -> Body:
        made = last.properties["outputs"].get(output)
        if made is None:
            raise bad_request(f"The loop's body has no output {output}.")
        if made.get("isControl"):
            return {"job_input_type": "literal", "value": self._value(last, output).strip()}
        return {"job_input_type": made["jobOutputType"], "uri": made["uri"]}


def _named(binding: str) -> str:
    """`${{parent.jobs.NAME}}` → NAME."""
    paths = list(graph.references(binding))
    return paths[0].removeprefix("jobs.") if paths else str(binding)
