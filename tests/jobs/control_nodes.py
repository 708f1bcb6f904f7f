"""Submits pipelines with control nodes, which the SDK keeps behind a variable it reads on import.

Usage: AZURE_ML_CLI_PRIVATE_FEATURES_ENABLED=true python control_nodes.py SUBSCRIPTION GROUP NAME
under `aml-local run`; prints the names of the jobs by pipeline, as JSON.
"""

import json
import sys

from azure.ai.ml import Input, MLClient, Output, command, dsl
from azure.ai.ml.dsl._condition import condition
from azure.ai.ml.dsl._do_while import do_while
from azure.ai.ml.dsl._parallel_for import parallel_for
from azure.ai.ml.entities import Environment
from azure.identity import DefaultAzureCredential

NUMBER = {"x": Input(type="integer", default=1)}
FOLDER = {"made": Output(type="uri_folder")}


def component(name, line, inputs=None, outputs=None):
    environment = Environment(image="none.invalid/none")
    options = {"environment": environment, "inputs": inputs or {}, "outputs": outputs or {}}
    return command(name=name, command=line, compute="cpu", **options).component


def flag(text):
    outputs = {"flag": Output(type="boolean", is_control=True)}
    return component("decide", f"echo {text} > ${{{{outputs.flag}}}}", outputs=outputs)()


def chosen(answer):
    decide = flag(answer)
    yes, no = component("yes", "echo y")(), component("no", "echo n")()
    condition(condition=decide.outputs.flag, true_block=yes, false_block=no)


@dsl.pipeline(compute="cpu")
def chosen_yes():
    chosen("True")


@dsl.pipeline(compute="cpu")
def chosen_no():
    chosen("False")


def repeated(rounds):
    """A step that counts up to 4, at most so often."""
    count = component(
        "count",
        "n=$((${{inputs.x}} + 1)); echo $n > ${{outputs.next}}; "
        "[ $n -lt 4 ] && echo true > ${{outputs.more}} || echo false > ${{outputs.more}}",
        NUMBER,
        {
            "next": Output(type="integer", is_control=True),
            "more": Output(type="boolean", is_control=True),
        },
    )
    body = count(x=1)
    mapping = {body.outputs.next: body.inputs.x}
    do_while(body, condition=body.outputs.more, mapping=mapping, max_iteration_count=rounds)
    return body


@dsl.pipeline(compute="cpu")
def counted():
    last = component("last", "echo ${{inputs.x}} > ${{outputs.made}}/text", NUMBER, FOLDER)
    body = repeated(10)
    return {"made": last(x=body.outputs.next).outputs.made}


@dsl.pipeline(compute="cpu")
def limited():
    repeated(2)


@dsl.pipeline(compute="cpu")
def gathered():
    each = component("each", "echo ${{inputs.x}} > ${{outputs.made}}/text", NUMBER, FOLDER)
    gather = component(
        "gather",
        "cat ${{inputs.table}}/*/text | sort > ${{outputs.made}}/text; "
        "grep -q folder ${{inputs.table}}/MLTable",
        {"table": Input(type="mltable")},
        FOLDER,
    )
    body = each(x=0)
    loop = parallel_for(body=body, items=[{"x": 3}, {"x": 5}])
    return {"made": gather(table=loop.outputs.made).outputs.made}


client = MLClient(DefaultAzureCredential(), *sys.argv[1:])
print(
    json.dumps(
        {
            pipeline.__name__: client.jobs.create_or_update(pipeline()).name
            for pipeline in (chosen_yes, chosen_no, counted, limited, gathered)
        }
    )
)
