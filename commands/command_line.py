"""The application behind `headrace`: the one command that is named, and one line for whatever stops it."""

import importlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import typer

from commands.output import INTERRUPTED, WRONG_USAGE, stderr
from commands.trouble import in_a_line
from runtime.errors import Explained, SettingsError
from runtime.lean_import import without
from schemas.errors import BrokenDataset

PROCESSES = "Single processes"

PANELS = {
    "The stack": ("up", "down", "restart", "scale", "status", "logs", "env", "keys", "rights", "clean"),
    "Data": (
        *("run", "stats", "reset", "publish", "push", "export"),
        *("failures", "reprocess", "recover", "forget", "prune", "audit", "lag", "alarms", "topics", "trace"),
        "rehearse",
    ),
    PROCESSES: (
        *("setup", "normalizer", "sink", "relay", "api", "dashboard", "mock-server"),
        *("scheduler", "watchdog", "monitor"),
    ),
}


def prepared(arguments: Sequence[str]) -> Callable[[], int]:
    """Load the command that the arguments name; what is returned runs it, and gives the exit code.

    A process of a stack takes over the variables of the latest `headrace up` or `restart` first.
    """
    try:
        if "HEADRACE_PROGRAM" in os.environ:
            settings_of_processes = importlib.import_module("local_stack.settings_of_processes")
            settings_of_processes.adopt_variables()
            settings_of_processes.note_start()
        app = build_app(arguments)
    except (Explained, BrokenDataset) as error:
        message = str(error)
        return lambda: _told(message, WRONG_USAGE)
    # A process's log is to say where it failed.
    return partial(
        _run, app, arguments, explaining=arguments[:1] not in [[name] for name in PANELS[PROCESSES] if name != "setup"]
    )


def _run(app: typer.Typer, arguments: Sequence[str], explaining: bool) -> int:
    try:
        app(list(arguments))
    except SystemExit as end:
        causes = list(_causes(end))
        told = end.code == INTERRUPTED and all(cause.__cause__ is None for cause in causes)  # by the command itself
        if end.code and not told and any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            raise KeyboardInterrupt from None
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except (SettingsError, BrokenDataset) as error:
        return _told(str(error), WRONG_USAGE)
    except Exception as error:
        line = in_a_line(error) if explaining else None
        if line is None:
            raise
        return _told(f"Error: {line}", 1)
    return 0


def _told(message: str, code: int) -> int:
    stderr.print(message, markup=False)
    return code


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The application for those arguments: with the one command that they name, or, for the help page, what is said of
    each. `headrace status` need not wait until Faust is loaded.
    """
    app = typer.Typer(
        name="headrace",
        help="Records from sources through Kafka to Postgres, Elasticsearch and Redis, every one accounted for.\n\n"
        "Start with:  headrace up",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)
    everything = {name: panel for panel, names in PANELS.items() for name in names}
    wanted = {arguments[0]} & everything.keys() if arguments else set()
    for name, panel in everything.items():
        module = name.replace("-", "_")
        if not wanted:
            app.command(name, help=summary(module), rich_help_panel=panel)(lambda: None)
        elif name in wanted:
            if "HEADRACE_PROGRAM" not in os.environ:
                importlib.import_module("commands.env_file").warn_of_misspelt()
            with without("rich.pretty", "rich.traceback"):  # by structlog, for tracebacks that no log of ours has
                command = getattr(importlib.import_module(f"commands.{module}"), module)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name, rich_help_panel=panel)
            else:
                app.command(name, rich_help_panel=panel)(command)
    return app


def summary(module: str) -> str:
    """The first paragraph of a command's help, read from its file: loading all of them takes seconds."""
    text = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    named = rf'(?:^def {module}|^@{module}\.callback\(\)\ndef \w+)\(.*?^    """(.+?)(?:\n\n|""")'
    group = r'typer\.Typer\([^)]*help="(.+?)"'
    found = re.search(named, text, re.DOTALL | re.MULTILINE) or re.search(group, text)
    return found[1] if found else ""
