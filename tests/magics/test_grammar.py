"""A line becomes a call of one command of the table."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aml_magics import grammar, helping, settings
from aml_magics.commands import EXAMPLES, OWN, commands, flags_of, function, groups
from aml_magics.errors import AmlError, BadCommand, NotSupported
from aml_magics.helping import help_text
from aml_magics.settings import SETTINGS

JOB = SimpleNamespace(name="calm_fox", best={"C": 1})
NAMESPACE = {"job": JOB, "C": 0.5, "table": [[1, 2]]}

# line → command, options
PARSED = {
    "job show calm_fox": ("job show", {"name": "calm_fox"}),
    "job show -n calm_fox": ("job show", {"name": "calm_fox"}),
    "job show --name=calm_fox": ("job show", {"name": "calm_fox"}),
    "job show $job": ("job show", {"name": "calm_fox"}),
    "job show $job.name": ("job show", {"name": "calm_fox"}),
    "job create -f a.yml --set inputs.C=0.1 tags.a='b c' --stream": (
        "job create",
        {"file": ["a.yml"], "overrides": ["inputs.C=0.1", "tags.a=b c"], "stream": True},
    ),
    r"data create --name d --path C:\data\x.csv --type uri_file": (
        "data create",
        {"name": "d", "path": r"C:\data\x.csv", "type": "uri_file"},
    ),
    "job list -r 5 -O json --query [].name": (
        "job list",
        {"max_results": 5, "format": "json", "query": "[].name"},
    ),
    "invoke e $table": ("invoke", {"endpoint": "e", "value": [[1, 2]]}),
    "compare a b --metric loss": ("compare", {"names": ["a", "b"], "metric": ["loss"]}),
    "deploy m:1 --endpoint e": ("deploy", {"model": "m:1", "endpoint": "e"}),
}


@pytest.mark.parametrize("line", PARSED)
def test_a_line_is_parsed(line):
    call = grammar.parse(line, NAMESPACE)

    assert (call.command.name, call.options) == PARSED[line]


def test_a_cell_of_a_job_needs_no_verb():
    call = grammar.parse("job -i C=1 lr=2 -o score --file a.py b.py", {}, cell=True)

    assert call.command.name == "job create"
    assert call.options == {
        "inputs": ["C=1", "lr=2"],
        "outputs": ["score"],
        "file": ["a.py", "b.py"],
    }


# line → error, words of its message and hint
WRONG = {
    "jbo list": (BadCommand, "did you mean 'job'?"),
    "job craete": (BadCommand, "did you mean 'job create'?"),
    "job frobnicate": (BadCommand, "create"),
    "job list --max-result 3": (BadCommand, "did you mean '--max-results'?"),
    "job list --max-results": (BadCommand, "--max-results needs a value"),
    "job list --max-results --help=1": (BadCommand, "--max-results needs a value"),
    "job show": (BadCommand, "%aml job show NAME"),
    "login local": (BadCommand, "did you mean '--local'?"),
    "job show a b": (BadCommand, "does not take 'b'"),
    "job show $nothing": (BadCommand, "no variable 'nothing'"),
    "job show $job.nothing": (BadCommand, "no attribute 'nothing'"),
    "job show 'a": (BadCommand, "close the quote"),
    "job list -r many": (BadCommand, "a whole number"),
    "job list -O xml": (BadCommand, "'xml'"),
    "data create --type uri_fil": (BadCommand, "did you mean 'uri_file'?"),
    "job list -g group": (BadCommand, "%aml login"),
    "deploy --endpoint e": (BadCommand, "MODEL"),
    "job create --web": (NotSupported, "az ml job create --web"),
    "data mount": (NotSupported, "az ml data mount"),
    "workspace outbound-rule set": (NotSupported, "az ml workspace outbound-rule set"),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_says_what_to_type(line):
    kind, words = WRONG[line]
    with pytest.raises(AmlError) as caught:
        grammar.parse(line, NAMESPACE)

    assert type(caught.value) is kind
    assert words in "\n".join(caught.value._render_traceback_())


def test_the_table_holds_all_of_az_ml():
    az = [command for command in commands().values() if command.status]

    assert len(az) == 171
    assert {*groups()} >= {"endpoint", "batch"}  # ours
    assert len(groups()) == 24 + 2  # the 25th, workspace outbound-rule, is within workspace


@pytest.mark.parametrize("name", list(commands()))
def test_every_command_is_callable_or_names_its_az_line(name):
    command = commands()[name]
    if not command.target:
        with pytest.raises(NotSupported, match=name):
            function(command)
        return
    assert callable(function(command))
    keys = [flag.key for flag in flags_of(command)]
    assert len(keys) == len(set(keys))
    assert not [word for word in command.words if word.rstrip("+=") == ""]


@pytest.mark.parametrize(
    "line",
    ["", "help", "help job", "help logout", "job", "job --help", "job create -h", "login --help"],
)
def test_help_is_shown_and_returns_nothing(line, offline, capsys):
    assert offline(line) is None
    assert "%aml" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_commands(name):
    names = {"job": JOB, "first": JOB, "second": JOB, "table": [[1]]}
    for line in EXAMPLES[name]:
        if line.startswith("%aml "):
            assert grammar.parse(line.removeprefix("%aml "), names).command.name == name


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_documented_and_read(name, monkeypatch):
    row = SETTINGS[name]
    assert f"{row.variable}={row.default}\n    {row.help}" in help_text("settings")
    assert settings.get(name) == row.default

    monkeypatch.setenv(row.variable, "7")
    assert settings.get(name) == row.convert("7")


def test_help_tells_only_what_works_here():
    assert "--web" not in help_text("job create")
    assert "az ml data mount" in help_text("data mount")


def test_every_flag_of_our_own_commands_says_what_it_is_for():
    known = helping.EVERYWHERE | helping.HERE
    flags = {flag.names[0] for row in OWN for flag in flags_of(commands()[row[0]])}
    assert not flags - set(known)
    assert not set(helping.HERE) - flags
    assert "metric that decides" in help_text("compare")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a $x", ["a", 1]),
        ("a '$x'", ["a", "$x"]),
        ('a "$x"', ["a", 1]),
        ("""a '{"b": "$x"}'""", ["a", '{"b": "$x"}']),
        ("""a "it's" $x""", ["a", "it's", 1]),
    ],
)
def test_single_quotes_keep_a_dollar(line, words):
    assert grammar.tokenise(line, {"x": 1}) == words
