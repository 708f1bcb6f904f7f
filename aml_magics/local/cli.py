"""``aml-local``: start, look at, use and stop the local workspace from a shell."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aml_magics.local import daemon
from aml_magics.local.daemon import Address, DaemonError


class Command(NamedTuple):
    """One subcommand: its function gets the parsed options and returns the exit code."""

    function: Callable[[argparse.Namespace], int]
    summary: str
    arguments: tuple[tuple[str, dict[str, Any]], ...] = ()


def start(options: argparse.Namespace) -> int:
    """Start the daemon, or find it running."""
    _show(daemon.ensure(options.home))
    return 0


def stop(options: argparse.Namespace) -> int:
    """Stop the daemon, or what a killed one left running; its data stays."""
    print("stopped" if daemon.stop(options.home) else "not running")
    return 0


def status(options: argparse.Namespace) -> int:
    """Show the daemon; exit code 3, as of an init script, when none runs."""
    address = daemon.find(options.home)
    if address is None:
        print(f"not running    (home: {daemon.home_folder(options.home)})")
        return 3
    _show(address)
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print the daemon's log, and with ``-f`` what is added to it until interrupted."""
    path = daemon.home_folder(options.home) / "daemon.log"
    if not path.exists():
        raise DaemonError(f"no log at {path}", hint="aml-local start")
    with path.open(encoding="utf-8", errors="replace") as log:
        shutil.copyfileobj(log, sys.stdout)
        while options.follow:
            sys.stdout.flush()
            time.sleep(0.2)
            shutil.copyfileobj(log, sys.stdout)
    return 0


def env(options: argparse.Namespace) -> int:
    """Print the shell lines that make this environment that of ``aml-local run``."""
    from aml_magics.local.run import environment

    wanted = environment(daemon.ensure(options.home))
    for name in sorted(os.environ.keys() - wanted.keys()):
        print(f"unset {name}")
    for name, value in sorted(wanted.items()):
        if os.environ.get(name) != value:
            print(f"export {name}={shlex.quote(value)}")
    return 0


def run(options: argparse.Namespace) -> int:
    """Become the command, in an environment where Azure's host names lead here."""
    from aml_magics.local.run import environment

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise DaemonError("no command to run", hint="aml-local run -- python script.py")
    variables = environment(daemon.ensure(options.home))
    try:
        os.execvpe(command[0], command, variables)  # noqa: S606 (running it is what is asked)
    except OSError as exc:
        print(f"aml-local: {command[0]}: {exc.strerror}", file=sys.stderr)
        return 127 if isinstance(exc, FileNotFoundError) else 126


def reset(options: argparse.Namespace) -> int:
    """Stop the daemon and delete everything in its home."""
    home = daemon.home_folder(options.home)
    if not (home / "daemon.lock").exists():
        print(f"nothing to delete in {home}")
        return 0
    if not options.yes:
        raise DaemonError(f"this deletes every job, model and file in {home}", hint="add --yes")
    daemon.stop(options.home)
    shutil.rmtree(home)
    print(f"deleted {home}")
    return 0


def environments(options: argparse.Namespace) -> int:
    """List the environments that were built for jobs, or remove those unused for some days."""
    from aml_magics.local import builds

    found = builds.built(daemon.home_folder(options.home))
    if options.remove is None:
        for build in found:
            print(build)
        return 0
    address = daemon.find(options.home)
    if address and _health(address).get("jobs"):
        raise DaemonError("jobs run that may use them", hint="wait for them, or cancel them")
    old = [build for build in found if build.days >= options.remove]
    for build in old:
        shutil.rmtree(build.folder)
    print(f"removed {len(old)} of {len(found)}, {sum(one.size_mb for one in old)} MB")
    return 0


COMMANDS = {
    "start": Command(start, "start the local workspace, if it does not run"),
    "stop": Command(stop, "stop it; its data stays"),
    "status": Command(status, "show where it runs and what is live in it"),
    "logs": Command(
        logs,
        "print the log of the daemon",
        (("--follow", {"action": "store_true", "help": "go on until interrupted"}),),
    ),
    "env": Command(env, 'print exports: eval "$(aml-local env)" does what run does'),
    "run": Command(
        run,
        "run a Python program made for Azure on it: aml-local run -- python script.py",
        (("command", {"nargs": argparse.REMAINDER, "help": "-- COMMAND [ARGUMENT …]"}),),
    ),
    "environments": Command(
        environments,
        "list the environments built for jobs, or remove those that are not used",
        (
            (
                "--remove",
                {"type": int, "metavar": "DAYS", "help": "remove what was not used for DAYS days"},
            ),
        ),
    ),
    "reset": Command(
        reset,
        "stop it and delete everything in its home",
        (("--yes", {"action": "store_true", "help": "do not ask"}),),
    ),
}
DESCRIPTION = "An Azure Machine Learning workspace on this machine."
SHORT = {"--follow": "-f", "--yes": "-y"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; an expected failure is two lines on stderr and exit code 1."""
    options = _parser().parse_args(argv)
    try:
        return COMMANDS[options.verb].function(options)
    except DaemonError as exc:
        hint = f"\nhint: {exc.hint}" if exc.hint else ""
        print(f"aml-local: {exc}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `aml-local logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aml-local", description=DESCRIPTION, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for verb, command in COMMANDS.items():
        sub = verbs.add_parser(verb, help=command.summary, description=command.summary)
        sub.add_argument(
            "--home", type=Path, help="folder of the workspace (default: AML_LOCAL_HOME)"
        )
        for name, options in command.arguments:
            sub.add_argument(*filter(None, (SHORT.get(name), name)), **options)
    return parser


def _show(address: Address) -> None:
    rows = {
        "workspace": daemon.DEFAULT_WORKSPACE,
        "address": address.url,
        "secure": address.secure_url,
        "page": f"{address.url}/?token={address.token}",
        "home": address.home,
        "pid": address.pid,
        "version": address.version,
        **_health(address),
    }
    for name, value in rows.items():
        print(f"{name:<12} {value}")


def _health(address: Address) -> dict[str, Any]:
    """What the daemon says of itself; proxies have no part in it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Authorization": f"Bearer {address.token}"}
    request = urllib.request.Request(f"{address.url}/healthz", headers=headers)  # noqa: S310
    try:
        with opener.open(request, timeout=10) as answer:
            health = json.load(answer)
    except (OSError, ValueError) as exc:
        return {"health": f"does not answer: {exc}"}
    return {"health": health.pop("status", "unknown"), **health}


if __name__ == "__main__":
    sys.exit(main())
