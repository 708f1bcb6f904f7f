"""The command table: every command, its flags, its function and its help.

``az_ml.tsv`` holds every command of ``az ml`` as data: name, status, flags, summary. ``HERE`` says
which of them have a function, ``OWN`` adds the commands beyond ``az ml``. Flags are written
``--long|-s`` followed by ``*`` when required, ``!`` when without a value, ``+`` when they take
several, ``={a,b}`` when limited to choices.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module, resources
from inspect import Parameter, signature
from typing import Any, NamedTuple

from aml_magics.errors import NotSupported
from aml_magics.kinds import ACTIONS, KINDS


class Flag(NamedTuple):
    names: tuple[str, ...]
    kind: str = "value"  # value | switch | many | maybe (a value or none)
    required: bool = False
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The parameter of the function that it fills."""
        long = self.names[0].lstrip("-").replace("-", "_")
        if self.kind == "many" and long in {"input", "output"}:
            return f"{long}s"
        return _KEYS.get(long, long)


class Command(NamedTuple):
    name: str
    summary: str
    flags: tuple[Flag, ...]
    words: tuple[str, ...] = ()  # parameters that bare words fill, in order
    target: str = ""  # "module:function"; empty: not here yet
    status: str = ""


_KEYS = {  # flags whose parameter has another name
    "set": "overrides",
    "as": "bind",
    "all": "everything",
    "kind": "workspace_kind",  # ours says the group
}
_SWITCHES = frozenset(
    (
        *("--all", "--all-traffic", "--archived-only", "--disable", "--include-archived"),
        *("--disabled-only", "--include-disabled", "--set-default", "--all-resources"),
        *("--include-spark", "--permanently-delete"),
        *("--no-wait", "--package-model", "--skip-script-validation", "--skip-validation"),
        *("--stream", "--web", "--yes"),
    )
)
_MANY = frozenset(
    {"--set", "--add", "--remove", "--tags", "--traffic", "--mirror-traffic", "--defaults"}
)
INTEGERS = frozenset(
    (
        *("--max-results", "--top", "--lines", "--instance-count"),
        *("--rows", "--concurrency", "--mini-batch-size", "--minutes"),
    )
)
MANY_WORDS = {"names+": "RUN …", "shares+": "DEPLOYMENT=PERCENT …"}  # in a line to type
WORKSPACE_FLAGS = frozenset({"--resource-group", "--workspace-name"})

_NOT_HERE = frozenset(  # understood by no function here yet, whatever the command
    (
        *("--populate-secrets", "--local", "--local-enable-gpu", "--vscode-debug", "--web"),
        *("--add", "--remove", "--force-string", "--datastore", "--package-model"),
        *("--skip-script-validation", "--subnet", "--vnet-name"),
        *("--admin-username", "--admin-password", "--ssh-key-value", "--identity-type"),
        *("--user-assigned-identities", "--user-object-id", "--user-tenant-id"),
        *("--enable-node-public-ip", "--ssh-public-access-enabled"),
        *("--update-dependent-resources", "--provision-network-now", "--not-grant-permissions"),
        *("--allow-roleassignment-on-rg", "--default-resource-group"),
    )
)

SHARED = "--help|-h! --format|-O={json,yaml,table,tsv} --query --as|-o"

# command, function, bare words, flags, summary: what az ml does not have.
OWN = (
    (
        "login",
        "login:login",
        "",
        "--local! --resource-group|-g --workspace-name|-w --subscription|-s --tenant",
        "Log in to a workspace: a local one, one named by flags, or the one configured here.",
    ),
    ("whoami", "login:whoami", "", "", "Show the workspace commands run in."),
    ("use", "login:use", "workspace_name", "--workspace-name|-w", "Return to another workspace."),
    ("logout", "login:logout", "", "", "Leave the workspace."),
    (
        "runs",
        "runs:runs",
        "experiment",
        "--experiment --filter --order-by --top --by --max-results|-r",
        "List runs, of an experiment or of all, with their parameters and metrics.",
    ),
    (
        "compare",
        "runs:compare",
        "names+",
        "--experiment --filter --metric|-m+ --top --by --goal={min,max} --smooth --log! "
        "--x={step,time,relative} --all! --baseline --group-by --max-results|-r",
        "Compare runs by their metrics: a table with the best marked, their curves, parameters.",
    ),
    (
        "register",
        "models:register",
        "source=",
        "--name|-n --artifact --description --tags|--tag+ --alias --allow-no-signature!",
        "Register the MLflow model that a job has logged, or a model in a file or folder.",
    ),
    (
        "deploy",
        "deploying:deploy",
        "model",
        "--endpoint|-e --deployment|-d --traffic --instance-type|-t "
        "--instance-count|--instances|-c "
        "--env-var+ --code --scoring-script --environment --no-wait! --dry-run!",
        "Deploy a registered model to an online endpoint.",
    ),
    (
        "traffic",
        "traffic:traffic",
        "endpoint shares+",
        "--mirror",
        "Share an endpoint's traffic among its deployments: traffic E blue=90 green=10.",
    ),
    ("rollback", "traffic:rollback", "endpoint", "", "Return to the traffic before the last."),
    (
        "invoke",
        "endpoints:invoke",
        "endpoint value=",
        "--deployment|-d",
        "Ask an online endpoint for predictions: a DataFrame, list, dict, JSON or CSV file.",
    ),
    ("endpoint list", "endpoints:list_", "", "--max-results|-r", "List the online endpoints."),
    (
        "endpoint invoke",
        "endpoints:invoke",
        "endpoint value=",
        "--deployment|-d",
        "Ask an online endpoint for predictions, as %aml invoke does.",
    ),
    (
        "endpoint show",
        "endpoints:show",
        "endpoint",
        "",
        "Show an online endpoint with its deployments and their shares.",
    ),
    (
        "endpoint logs",
        "endpoints:logs",
        "endpoint",
        "--deployment|-d --lines|-l --follow!",
        "Show what the deployments of an online endpoint have written last.",
    ),
    (
        "endpoint test",
        "latency:test",
        "endpoint data=",
        "--rows --concurrency --deployment|-d",
        "Measure how fast an online endpoint answers.",
    ),
    (
        "endpoint metrics",
        "latency:metrics",
        "endpoint",
        "--minutes",
        "Show requests a minute and latency of an online endpoint's deployments.",
    ),
    (
        "endpoint delete",
        "endpoints:delete",
        "endpoint",
        "--yes!",
        "Delete an online endpoint with all its deployments.",
    ),
    (
        "batch deploy",
        "batch:deploy",
        "model",
        "--endpoint|-e --deployment|-d --compute --instance-count|-c --mini-batch-size",
        "Deploy a registered MLflow model to a batch endpoint.",
    ),
    (
        "batch invoke",
        "batch:score",
        "endpoint path=",
        "--deployment|-d --no-wait!",
        "Score a file, folder or asset by a batch endpoint, and show the predictions.",
    ),
)

_CELL_FLAGS = (
    "--input|-i+ --output|-o+ --experiment --display-name --description --compute --environment "
    "--tags+"
)
_JOB_VERBS = ("show", "stream", "cancel", "archive", "restore", "download", "update")
_ASSET_VERBS = {  # of the kinds that assets knows, where az ml has them
    **{v: f"assets:{v}" for v in ("create", "show", "update", "archive", "restore", "delete")},
    "list": "assets:list_",
    "attach": "assets:create",
}

# az ml command → function, flags beyond az ml's.
HERE = {
    **{f"{g} {v}": (target, "") for g in KINDS for v, target in _ASSET_VERBS.items()},
    **dict.fromkeys(ACTIONS, ("actions:act", "")),
    **{f"job {v}": (f"jobs:{v}", "") for v in _JOB_VERBS},
    **{f"schedule {v}": (f"schedules:{v}", "") for v in ("enable", "disable", "trigger")},
    "schedule list": ("schedules:list_", ""),
    "job list": ("jobs:list_", ""),
    "job validate": ("submit:validate", ""),
    "job create": ("submit:create", f"--no-wait! {_CELL_FLAGS}"),
    "model download": ("models:download", ""),
    "model show": ("models:show", ""),
    "model list": ("models:list_", ""),
    "batch-endpoint invoke": ("batch:invoke", "--no-wait!"),
    "online-endpoint invoke": ("endpoints:invoke_file", ""),
    "online-endpoint get-credentials": ("endpoints:get_credentials", ""),
    "online-deployment get-logs": ("endpoints:get_logs", ""),
}
EXAMPLES = {
    "login": ("%aml login --local", "%aml login -g GROUP -w WORKSPACE --subscription ID"),
    "job create": (
        "%%aml job -i C=0.5 -i data=azureml:iris@latest -o score --file helper.py",
        "    above a Python cell, in which C and data are variables; score comes back",
        "%%aml job, above a cell with a job's YAML; %%aml sweep or pipeline, with one of those",
        "%aml job create -f job.yml --set inputs.C=0.1 --stream",
    ),
    "runs": (
        """%aml runs trees --filter "metrics.auc > 0.9" """.rstrip(),
        "%aml runs --top 5 --by auc",
    ),
    "compare": (
        "%aml compare --experiment trees --top 10 --by val_loss --smooth 0.6 --log",
        "%aml compare $first $second --metric val_loss accuracy --x time",
    ),
    "register": (
        "%aml register $job --name iris --alias champion",
        "%aml register ./model --name iris --tags stage=test",
    ),
    "deploy": (
        "%aml deploy iris@champion --endpoint iris-endpoint",
        "%aml deploy iris:2 --endpoint iris-endpoint --deployment green --traffic 10",
        "%aml deploy net --code src --scoring-script score.py --environment torch@latest",
    ),
    "traffic": (
        "%aml traffic iris-endpoint blue=90 green=10",
        "%aml traffic iris-endpoint --mirror green=10",
    ),
    "invoke": (
        "%aml invoke iris-endpoint $table",
        """%aml invoke iris-endpoint '{"x": 1}'""",
        "%aml invoke iris-endpoint",
        "    without a value: about the model's own input example",
    ),
    "endpoint test": ("%aml endpoint test iris-endpoint $table --rows 1000 --concurrency 8",),
    "batch invoke": ("%aml batch invoke iris-batch data/new.csv",),
}
# %%aml WORD above a cell; below one that is a type of job, the body is its YAML.
CELLS = dict.fromkeys(("job", "pipeline", "sweep"), "job create")


@cache
def commands() -> dict[str, Command]:
    """Every command by name, az ml's and ours."""
    text = resources.files("aml_magics").joinpath("az_ml.tsv").read_text(encoding="utf-8")
    rows = [_az_row(*line.split("\t")) for line in text.splitlines()[1:]]
    rows += [
        Command(name, summary, parse_flags(flags), tuple(words.split()), target)
        for name, target, words, flags, summary in OWN
    ]
    return {row.name: row for row in rows}


def _az_row(name: str, status: str, flags: str, summary: str) -> Command:
    target, more = HERE.get(name, ("", ""))
    mine = tuple(
        flag for flag in parse_flags(f"{flags} {more}") if flag.names[0] not in WORKSPACE_FLAGS
    )
    if name == "job create":  # a cell's body takes the file's place
        mine = tuple(
            f._replace(required=False, kind="many") if f.key == "file" else f for f in mine
        )
    words = ("name",) if any(flag.key == "name" for flag in mine) else ()
    return Command(name, summary, mine, words, target, status)


@cache
def parse_flags(text: str) -> tuple[Flag, ...]:
    return tuple(_flag(word) for word in text.split())


def _flag(word: str) -> Flag:
    names, star, mark, choices = re.findall(r"^([^*!+=]+)(\*?)([!+]?)(?:=\{(.*)\})?$", word)[0]
    parts = tuple(names.split("|"))
    options = tuple(choices.split(",")) if choices else ()
    kind = {"!": "switch", "+": "many", "": "value"}[mark]
    kind = "switch" if parts[0] in _SWITCHES else "many" if parts[0] in _MANY else kind
    kind = "maybe" if options == ("false", "true") else kind
    return Flag(parts, kind, bool(star), options)


def flags_of(command: Command) -> tuple[Flag, ...]:
    """The flags a command understands here; of one without a function, az ml's."""
    if not command.target:
        return command.flags
    accepted = signature(function(command)).parameters.values()
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in accepted)
    names = {p.name for p in accepted}
    return tuple(
        flag
        for flag in command.flags
        if flag.key in names or (takes_any and flag.names[0] not in _NOT_HERE)
    )


def function(command: Command) -> Any:
    """The function of a command; its module is imported on first use.

    Raises: NotSupported: the command has none yet.
    """
    if not command.target:
        raise NotSupported(
            f"'{command.name}' is not available here yet",
            hint=f"in a terminal: az ml {command.name} …",
        )
    module, name = command.target.split(":")
    return getattr(import_module(f"aml_magics.{module}"), name)


def groups() -> dict[str, list[str]]:
    """Each group of az ml and its verbs."""
    found: dict[str, list[str]] = {}
    for name in commands():
        group, _, verb = name.partition(" ")
        if verb:
            found.setdefault(group, []).append(verb)
    return found


def verbs(group: str) -> list[str]:
    return groups().get(group, [])


def usage(command: Command) -> str:
    """The line to type, with what must be given."""
    words = " ".join(
        MANY_WORDS.get(w, w.rstrip("+=").replace("_", "-").upper()) for w in command.words
    )
    named = {word.rstrip("+=") for word in command.words}
    flags = " ".join(
        f"{f.names[-1]} {f.key.upper()}" for f in command.flags if f.required and f.key not in named
    )
    return " ".join(f"%aml {command.name} {words} {flags}".split())
