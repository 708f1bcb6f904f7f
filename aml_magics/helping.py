"""The text of --help: for a command, a group, the settings, or everything."""

from __future__ import annotations

from aml_magics.commands import (
    EXAMPLES,
    OWN,
    SHARED,
    Command,
    Flag,
    commands,
    flags_of,
    groups,
    parse_flags,
    usage,
    verbs,
)
from aml_magics.settings import SETTINGS

COLUMN = 34  # where the text of a flag begins
# What a flag is for, whatever the command.
EVERYWHERE = {
    "--as": "keep the result in a variable of this name",
    "--compute": "where it runs",
    "--environment": "NAME:VERSION or NAME@latest",
    "--description": "a sentence about it",
    "--experiment": "the experiment whose runs they are",
    "--file": "YAML file",
    "--format": "print the result in this format",
    "--input": "inputs by name: C=0.5, data=azureml:iris@latest",
    "--instance-count": "machines; 1 for a first deployment",
    "--instance-type": "size of machine: Standard_DS3_v2",
    "--max-results": "at most so many",
    "--name": "its name",
    "--no-wait": "do not wait until it is done",
    "--output": "variables that come back from the job",
    "--query": "a part of the result, as JMESPath",
    "--resource-group": "the workspace's resource group on Azure",
    "--set": "change a field: instance_count=2",
    "--stream": "show the log until it ends",
    "--tags": "NAME=VALUE words",
    "--workspace-name": "the workspace",
    "--yes": "do it without asking",
}
# What a flag of our own commands is for; elsewhere it may mean something else.
HERE = {
    "--alias": "moved to the new version: champion",
    "--all": "also what is the same in all runs",
    "--allow-no-signature": "register a model that cannot be deployed without a script",
    "--artifact": "the model's folder among the job's artifacts; found when there is one",
    "--baseline": "the run that the others are measured against",
    "--by": "the metric that decides, the best first",
    "--code": "folder with the scoring script of a model that is not MLflow's",
    "--concurrency": "requests at a time",
    "--deployment": "one of the endpoint's deployments; blue for a first one",
    "--dry-run": "only say what would be done, as YAML",
    "--endpoint": "made when it is not there; named like the model when left out",
    "--env-var": "environment variables of the server",
    "--filter": "which runs, as MLflow writes it: 'metrics.auc > 0.9'",
    "--follow": "go on with what is written, until interrupted",
    "--goal": "which way is better; guessed from the metric's name",
    "--group-by": "put runs together by a parameter's value, with means and a colour",
    "--lines": "so many of the last lines",
    "--local": "the workspace on this machine, without Azure",
    "--log": "logarithmic axis of values",
    "--metric": "those to show, the first decides; the usual ones when left out",
    "--mini-batch-size": "files at a time",
    "--minutes": "how far to look back",
    "--mirror": "DEPLOYMENT=PERCENT that gets copies of the traffic; 0 ends it",
    "--order-by": "as MLflow writes it: 'params.C DESC'",
    "--rows": "requests to send",
    "--scoring-script": "the file in --code with init() and run()",
    "--smooth": "smooth curves: 0 is not at all, 0.99 most",
    "--subscription": "the workspace's subscription on Azure",
    "--tenant": "sign in to this tenant",
    "--top": "only so many, the best",
    "--traffic": "percent of the endpoint's traffic; the others share the rest",
    "--x": "what curves are drawn over",
}


def help_text(name: str = "") -> str:
    """Help for a command, a group, ``settings``, or everything when there is no name."""
    if name in commands():
        return _command_help(commands()[name])
    if verbs(name):
        rows = [commands()[f"{name} {verb}"] for verb in verbs(name)]
        return "\n".join([f"%aml {name} VERB", "", *_listing(rows)])
    if name == "settings":
        return "\n".join(
            f"{row.variable}={row.default}\n    {row.help}" for row in SETTINGS.values()
        )
    here = [c for c in commands().values() if c.target and " " not in c.name]
    names = ", ".join(groups())
    return "\n".join(
        [
            "%aml COMMAND … | %%aml job … above a Python or YAML cell",
            "%%aml sweep … or %%aml pipeline … above the YAML of one",
            "",
            *_listing(here),
            "",
            f"groups, as of az ml: {names}",
            "more: %aml GROUP --help, %aml GROUP VERB --help, %aml help settings",
        ]
    )


def _listing(rows: list[Command]) -> list[str]:
    width = max(len(row.name) for row in rows)
    return [
        f"  {row.name:<{width}}  {row.summary}{'' if row.target else '  (az ml only)'}"
        for row in rows
    ]


def _command_help(command: Command) -> str:
    mine = flags_of(command)
    taken = {name for flag in mine for name in flag.names}
    shared = [
        flag._replace(names=tuple(name for name in flag.names if name not in taken))
        for flag in parse_flags(SHARED)
    ]
    flags = [line for flag in (*mine, *shared) for line in _flag_lines(flag, _texts(command))]
    missing = [] if command.target else ["", f"Not available here yet: az ml {command.name} …"]
    examples = EXAMPLES.get(command.name, ())
    more = ["", "examples:", *(f"  {line}" for line in examples)] if examples else []
    return "\n".join([usage(command), "", command.summary, *missing, "", *flags, *more])


def _texts(command: Command) -> dict[str, str]:
    own = command.name in {row[0] for row in OWN}
    return EVERYWHERE | HERE if own else EVERYWHERE


def _flag_lines(flag: Flag, texts: dict[str, str]) -> list[str]:
    """A flag and, below it where it is long, what it is for."""
    said = f"  {', '.join(flag.names)}{_value(flag)}{'  (required)' if flag.required else ''}"
    text = texts.get(flag.names[0], "")
    if len(said) >= COLUMN:
        return [said, " " * COLUMN + text] if text else [said]
    return [f"{said:<{COLUMN}}{text}".rstrip()]


def _value(flag: Flag) -> str:
    if flag.choices:
        return f" {{{','.join(flag.choices)}}}"
    return {"value": " VALUE", "many": " VALUE …"}.get(flag.kind, "")
