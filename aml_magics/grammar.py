"""How a line becomes a call of one of the commands in the table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any, NamedTuple

from aml_magics.commands import (
    CELLS,
    INTEGERS,
    SHARED,
    WORKSPACE_FLAGS,
    Command,
    Flag,
    commands,
    flags_of,
    function,
    groups,
    parse_flags,
    usage,
)
from aml_magics.errors import BadCommand, NotSupported, did_you_mean
from aml_magics.helping import help_text

PLAIN_DOLLAR = "\ufffc"  # stands for one in single quotes while a line is split


class Call(NamedTuple):
    command: Command
    options: dict[str, Any]
    help: str = ""  # the text to show instead of calling


def tokenise(line: str, namespace: Mapping[str, Any]) -> list[Any]:
    """Split as a shell does, backslashes kept; a whole word ``$name`` is that variable.

    As in a shell, no variable is meant within single quotes.

    Raises: BadCommand: a quote is left open, or a variable is not defined.
    """
    quoted = re.sub(r"\"[^\"]*\"|'[^']*'", _without_dollars, line)
    lexer = shlex.shlex(quoted, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    try:
        words = [variable(word, namespace) for word in lexer]
    except ValueError as exc:
        raise BadCommand(f"{str(exc).lower()} in: {line}", hint="close the quote") from exc
    return [w.replace(PLAIN_DOLLAR, "$") if isinstance(w, str) else w for w in words]


def _without_dollars(part: re.Match[str]) -> str:
    text = part[0]
    return text.replace("$", PLAIN_DOLLAR) if text.startswith("'") else text


def variable(word: str, namespace: Mapping[str, Any]) -> Any:
    """The value of ``$name`` or ``$name.attribute``; any other word as it is."""
    if not re.fullmatch(r"\$[^\W\d]\w*(\.[^\W\d]\w*)*", word):
        return word
    name, *attributes = word[1:].split(".")
    if name not in namespace:
        hint = did_you_mean(name, namespace) or f"{name} = … first"
        raise BadCommand(f"no variable '{name}' in the notebook", hint)
    value = namespace[name]
    for attribute in attributes:
        if not hasattr(value, attribute):
            raise BadCommand(f"'{name}' has no attribute '{attribute}'", hint=f"see dir({name})")
        value = getattr(value, attribute)
    return value


def parse(line: str, namespace: Mapping[str, Any], *, cell: bool = False) -> Call:
    """Turn a line into a call.

    Raises: BadCommand: unknown command or flag, missing or superfluous value.
        NotSupported: an az ml command or flag without a function here.
    """
    words = tokenise(line, namespace)
    name, rest = _command_name(words, cell)
    asks = any(word in {"--help", "-h"} for word in rest if isinstance(word, str))
    if name not in commands() or asks:
        return Call(Command(name, "", ()), {}, help=help_text(name))
    command = commands()[name]
    function(command)
    options = _options(command, rest)
    _check_required(command, options)
    if words[0] in CELLS and words[0] not in groups():
        options["job_type"] = words[0]
    return Call(command, options)


def _command_name(words: list[Any], cell: bool) -> tuple[str, list[Any]]:
    """The longest command the words begin with, or the group they name, and what follows."""
    plain = [word if isinstance(word, str) else "" for word in words]
    for size in (3, 2, 1):
        name = " ".join(plain[:size])
        if name in commands():
            return name, words[size:]
    if not words or plain[0] in {"help", "--help", "-h"}:
        return " ".join(plain[1:]), ["--help"]
    group = plain[0]
    if cell and group in CELLS and (len(words) == 1 or plain[1].startswith("-")):
        return CELLS[group], words[1:]
    verbs = groups().get(group, [])
    if group in CELLS and not verbs:
        raise BadCommand(f"'{group}' goes above a cell", hint=f"%%aml {group}, and YAML below it")
    if not verbs:
        names = [*commands(), *groups()]
        raise BadCommand(f"no command '{group}'", did_you_mean(group, names) or "%aml lists them")
    if len(words) == 1 or plain[1] in {"--help", "-h"}:
        return group, []
    hint = did_you_mean(plain[1], verbs, before=group)
    raise BadCommand(f"no command '{group} {plain[1]}'", hint or f"verbs: {', '.join(verbs)}")


def _options(command: Command, words: list[Any]) -> dict[str, Any]:
    """Read flags and bare words into the function's parameters."""
    options: dict[str, Any] = {}
    bare: list[Any] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not isinstance(word, str) or not re.match(r"--?[A-Za-z]", word):
            bare.append(word)
            continue
        name, equals, value = word.partition("=")
        flag = _find_flag(command, name)
        if equals:
            rest.insert(0, value)
        _take(command, flag, rest, options)
    _fill_words(command, bare, options)
    return options


def _take(command: Command, flag: Flag, rest: list[Any], options: dict[str, Any]) -> None:
    """Move a flag's value or values from the words to the options."""
    if flag.kind == "switch":
        options[flag.key] = True
    elif flag.kind == "maybe":
        options[flag.key] = rest.pop(0) == "true" if rest and rest[0] in flag.choices else True
    elif not rest or _is_flag(command, rest[0]):
        raise BadCommand(f"{flag.names[0]} needs a value", hint=usage(command))
    elif flag.kind == "many":
        values = options.setdefault(flag.key, [])
        while rest and not _is_flag(command, rest[0]):
            values.append(rest.pop(0))
    else:
        options[flag.key] = _checked(flag, plain(rest.pop(0)))


def _is_flag(command: Command, word: Any) -> bool:
    names = {name for flag in (*command.flags, *parse_flags(SHARED)) for name in flag.names}
    return isinstance(word, str) and word.partition("=")[0] in names


def _checked(flag: Flag, value: str) -> str | int:
    if flag.names[0] in INTEGERS:
        if not value.isdigit():
            raise BadCommand(f"{flag.names[0]} cannot be '{value}'", hint="a whole number from 0")
        return int(value)
    if flag.choices and value not in flag.choices:
        hint = did_you_mean(value, flag.choices) or f"one of {', '.join(flag.choices)}"
        raise BadCommand(f"{flag.names[0]} cannot be '{value}'", hint)
    return value


def _find_flag(command: Command, name: str) -> Flag:
    mine = flags_of(command)
    for flag in (*mine, *parse_flags(SHARED)):
        if name in flag.names:
            return flag
    if name in WORKSPACE_FLAGS | {"-g", "-w"}:
        raise BadCommand(
            f"{name} belongs to %aml login", hint=f"%aml login -g … -w …, then {usage(command)}"
        )
    if any(name in flag.names for flag in command.flags):
        raise NotSupported(
            f"{name} of '{command.name}' is not available here yet",
            hint=f"in a terminal: az ml {command.name} {name} …",
        )
    known = [n for flag in mine for n in flag.names if n.startswith("--")]
    hint = did_you_mean(name, known) or usage(command)
    raise BadCommand(f"'{command.name}' has no flag {name}", hint)


def _fill_words(command: Command, bare: list[Any], options: dict[str, Any]) -> None:
    """Give the bare words to the command's parameters; ``+`` takes all, ``=`` takes an object."""
    for word in command.words:
        key, raw = word.rstrip("+="), word.endswith("=")
        if word.endswith("+"):
            options[key], bare = [plain(name) for value in bare for name in _each(value)], []
        elif bare and key not in options:
            value = bare.pop(0)
            options[key] = value if raw else plain(value)
    if bare:
        extra = plain(bare[0])
        names = {name for flag in flags_of(command) for name in flag.names}
        hint = f"did you mean '--{extra}'?" if f"--{extra}" in names else usage(command)
        raise BadCommand(f"'{command.name}' does not take '{extra}'", hint)


def _each(value: Any) -> list[Any]:
    """The names that a variable holds: of a DataFrame, as of `runs`, those of its rows."""
    for column in ("name", "run_id"):
        if column in getattr(value, "columns", ()):
            return list(value[column])
    return list(value) if isinstance(value, (list, tuple)) else [value]


def parameters(run: Any) -> frozenset[str]:
    """Names of what a command's function takes."""
    return frozenset(signature(run).parameters)


def _check_required(command: Command, options: dict[str, Any]) -> None:
    accepted = signature(function(command)).parameters
    missing = [
        f.names[0]
        for f in command.flags
        if f.key not in options and (f.required or _is_needed(accepted.get(f.key)))
    ]
    for word in (word.rstrip("=") for word in command.words if not word.endswith("+")):
        if _is_needed(accepted.get(word)) and word not in options and f"--{word}" not in missing:
            missing.append(word.upper())
    if missing:
        raise BadCommand(f"'{command.name}' needs {' and '.join(missing)}", hint=usage(command))


def _is_needed(parameter: Parameter | None) -> bool:
    return (
        parameter is not None
        and parameter.default is Parameter.empty
        and parameter.kind is Parameter.KEYWORD_ONLY
    )


def plain(value: Any) -> str:
    """A word as text: of a record, its name."""
    return value if isinstance(value, str) else str(getattr(value, "name", value))
