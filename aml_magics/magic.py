"""``%aml`` and ``%%aml``: parse, call, show."""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

from aml_magics import display, grammar, quiet
from aml_magics.commands import function
from aml_magics.errors import AmlError, BadCommand, Interrupted

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from aml_magics.cells import Origin
    from aml_magics.session import Session


def register(shell: InteractiveShell) -> None:
    """Add the magic and its completion to a shell, once."""
    shell.register_magics(AmlMagics)
    matchers = shell.Completer.custom_matchers
    if completions not in matchers:
        matchers.append(completions)


@context_matcher(identifier="aml_magics")  # type: ignore[untyped-decorator]
def completions(context: CompletionContext) -> SimpleMatcherResult:
    """Complete ``%aml``, ``x = %aml`` and the first line of ``%%aml``."""
    from aml_magics.completion import complete

    line = context.line_with_cursor
    in_body = context.cursor_line > 0 and context.full_text.lstrip().startswith("%%")
    found = None if in_body else complete(line, context.cursor_position)
    if found is None:
        return SimpleMatcherResult(completions=[])
    word, texts = found
    return SimpleMatcherResult(
        completions=[SimpleCompletion(text=text, type="aml") for text in texts],
        matched_fragment=word,
        suppress=True,
    )


@magics_class
class AmlMagics(Magics):  # type: ignore[misc]
    """The notebook's side of a workspace."""

    @no_var_expand  # type: ignore[untyped-decorator]  # IPython would eat braces of ${{inputs.x}}
    @line_cell_magic  # type: ignore[untyped-decorator]
    def aml(self, line: str, cell: str | None = None) -> Any:
        """Azure Machine Learning: %aml COMMAND …, or %%aml job … above a cell.

        %aml lists the commands, %aml GROUP --help and %aml GROUP VERB --help tell more.
        """
        names = self.shell.user_ns
        call = grammar.parse(line, names, cell=cell is not None)
        if call.help:
            print(call.help)  # noqa: T201  help is text
            return None
        options = dict(call.options)
        shape = {"query": options.pop("query", ""), "form": options.pop("format", "")}
        bind = options.pop("bind", "")
        run = function(call.command)
        options |= self._supplied(run, call.command.name, cell)
        try:
            result = run(**options)
        except AmlError as error:
            error.hint = error.hint or f"%aml {call.command.name} --help"
            if bind and error.result is not None:
                names[bind] = error.result
            raise
        except KeyboardInterrupt:
            hint = "run it again; what it had begun on the workspace is still there"
            raise Interrupted(f"'{call.command.name}' was interrupted", hint) from None
        finally:
            _outdate_names()
        display.offer(self.shell)
        names.update(getattr(result, "kept", {}))
        if bind:
            names[bind] = result
        if not any(shape.values()):
            return result
        return display.shaped(result, **shape)

    def _supplied(self, run: Any, command: str, cell: str | None) -> dict[str, Any]:
        """What a function asks for by a parameter's name and no flag gives."""
        wanted = signature(run).parameters
        if cell is not None and "cell" not in wanted:
            raise BadCommand(f"'{command}' takes no cell", hint=f"%aml {command} --help")
        makers: dict[str, Callable[[], Any]] = {
            "session": _session,
            "cell": lambda: cell,
            "namespace": lambda: self.shell.user_ns,
            "origin": self._origin,
            "tell": lambda: _tell,
            "kind": lambda: command.partition(" ")[0],
            "command": lambda: command,
        }
        return {name: make() for name, make in makers.items() if name in wanted}

    def _origin(self) -> Origin:
        """The notebook and cell that run, as far as the front end tells."""
        from aml_magics.cells import Origin

        path = self.shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
        parent = self.shell.get_parent() if hasattr(self.shell, "get_parent") else {}
        cell_id = (parent.get("metadata") or {}).get("cellId", "")
        return Origin(Path(path).name if path else "", cell_id)


def _outdate_names() -> None:
    from aml_magics import completion, session

    if entered := session.active():
        completion.outdate(entered)


def _session() -> Session:
    from aml_magics import session

    return session.current()


def _tell(text: str) -> None:
    """Show progress as plain output, at once."""
    quiet.say(text)
