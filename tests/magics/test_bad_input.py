"""What people get wrong in YAML and cells: one error, at most five lines, what to type next."""

from __future__ import annotations

import pytest

from aml_magics import validation
from aml_magics.errors import BadCommand, BadInput, JobFailed, NotFound

ENVIRONMENT = "environment: azureml://registries/azureml/environments/sklearn-1.5/labels/latest\n"

# what is wrong: (line, cell, error, words its lines hold)
BAD = {
    "YAML that does not parse": ("job", "command: ls\nfoo: [", BadInput, "line 2"),
    "an unknown type": ("job", "type: comand\ncommand: ls", BadInput, "comand"),
    "no environment": ("job", "command: ls", BadInput, "environment: missing"),
    "an unknown field": (
        "job",
        f"command: ls\n{ENVIRONMENT}foo: 1",
        BadInput,
        "foo: unknown field",
    ),
    "a wrong choice": (
        "job",
        f"command: ls\n{ENVIRONMENT}inputs: {{a: {{type: urifile, path: x}}}}",
        BadInput,
        "inputs.a.type: 'urifile' is not one of uri_file, uri_folder",
    ),
    "a missing folder": (
        "job",
        f"command: ls\n{ENVIRONMENT}code: nowhere",
        BadInput,
        "code: no such file: nowhere",
    ),
    "an unknown asset": (
        "job",
        f"command: ls\n{ENVIRONMENT}inputs: {{a: {{type: uri_file, path: 'azureml:no@latest'}}}}",
        NotFound,
        "%aml data list",
    ),
    "an unknown environment": (
        "job",
        "command: ls\nenvironment: azureml:no@latest",
        NotFound,
        "no",
    ),
    "a missing file": ("job create -f missing.yml", None, BadInput, "missing.yml"),
    "no file": ("job create", None, BadCommand, "-f JOB.yml"),
    "a change without a value": ("job --set C", "pass", BadCommand, "--set PATH=VALUE"),
    "an extra file of YAML": ("job --file a.py", "command: ls", BadCommand, "Python cell"),
    "an output not waited for": ("job -o a --no-wait", "a = 1", BadCommand, "--no-wait"),
    "an output of YAML": ("job -o a", "command: ls", BadCommand, "--as"),
    "an unknown variable": ("job -i nothing", "pass", BadCommand, "-i nothing=VALUE"),
    "a missing extra file": ("job --file nothing.py", "pass", BadInput, "nothing.py"),
    "a cell that is not Python": ("job", "print(1", BadInput, "line 1"),
    "a magic in a cell": ("job", "%time 1", BadInput, "no % or ! lines"),
    "a command that fails": (
        "job",
        f"command: echo so far; exit 3\n{ENVIRONMENT}",
        JobFailed,
        "so far",
    ),
    "a variable that does not come": ("job -o score", "pass", JobFailed, "'score'"),
    "an unknown job": ("job stream nothing", None, NotFound, "%aml job list"),
    "a job update of nothing": ("job update x", None, BadCommand, "--set display_name"),
    "a cell where none belongs": ("data list", "pass", BadCommand, "takes no cell"),
    "a query that does not parse": ("job list --query [", None, BadCommand, "jmespath.org"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_short_error(case, fails):
    line, cell, kind, words = BAD[case]
    error = fails(line, cell)

    assert type(error) is kind
    assert words in "\n".join(error._render_traceback_())


def test_nothing_is_written_to_stderr(aml, fails, capsys):
    fails("job", "type: comand\ncommand: ls")
    aml("job --no-wait", "pass")

    assert capsys.readouterr() == ("", "")


def test_a_long_error_is_cut_to_five_lines():
    error = JobFailed("one\ntwo\nthree", "do this", detail=[str(n) for n in range(20)])

    assert error._render_traceback_() == [
        "JobFailed: one",
        "two",
        "three",
        "  | 19",
        "hint: do this",
    ]


def test_a_text_without_a_document_is_its_first_line():
    assert validation.summary("first\nsecond") == "first"
