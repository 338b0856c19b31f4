"""The terminal of a command: results on stdout, remarks and errors on stderr, JSON for scripts, and its user."""

import getpass
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from commands.printable import PrintableConsole, json_text

WIDE = 240
"""Characters a line where there is no terminal: a pipe or a file has no edge at which to break a table."""

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended."""

stdout = PrintableConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
stderr = PrintableConsole(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else WIDE)


def print_json(value: Any) -> None:
    """Print a value as indented JSON, and nothing else, on stdout."""
    typer.echo(json_text(value, indent=2))


def outcomes_in_words(outcomes: Mapping[str, int]) -> str:
    """`inserted 4, superseded 12,356`: of how many records became what, without those of which there are none. Pure."""
    return ", ".join(f"{outcome} {count:,}" for outcome, count in outcomes.items() if count)


WRONG_USAGE = 2
"""The exit code of a command that was called wrongly, as Click's own."""


def fail(message: str, code: int = 1) -> NoReturn:
    """Print what is wrong and what to do about it on stderr, and exit."""
    stderr.print("Error:", style="bold red", end=" ")
    stderr.print(message, markup=False)
    raise typer.Exit(code)


def who() -> str:
    """The user of this machine, as an action's author."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = str(os.getuid())  # a container's user may have no name
    return f"{name}@{socket.gethostname()}"


SLOW_SECONDS = 1.0
"""A person who sees nothing for longer wonders."""


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Say on stderr what a command waits for, once that takes longer than a moment."""
    timer = threading.Timer(SLOW_SECONDS, lambda: stderr.print(f"Waiting for {what} …", style="dim", markup=False))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
