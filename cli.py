"""The command line: `headrace COMMAND`. Each command is a module of `commands/`, loaded only when it is wanted."""

import importlib
import os
import sys
from collections.abc import Sequence

import typer

from commands.output import stderr
from runtime.settings import SettingsError

PANELS = {
    "The stack": ("up", "down", "restart", "scale", "status", "logs", "env", "clean"),
    "Data": ("run", "stats", "reset", "publish", "push", "export", "failures", "audit", "lag", "topics", "rehearse"),
    "Single processes": ("setup", "normalizer", "sink", "relay", "api", "mock-server", "scheduler", "watchdog"),
}


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The application for those arguments: with the one command that they name, or all of them for the help page.

    `headrace status` need not wait until Faust is loaded.
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
        if wanted and name not in wanted:
            continue
        attribute = name.replace("-", "_")
        command = getattr(importlib.import_module(f"commands.{attribute}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)
    return app


def main() -> None:
    """Run the command line. Wrong settings are said in a line each, without a traceback; exit code 2.

    A process of a stack takes over the variables of the latest `headrace up` or `restart` first.
    """
    if "HEADRACE_PROGRAM" in os.environ:
        importlib.import_module("local_stack.settings_of_processes").adopt_variables()
    try:
        build_app(sys.argv[1:])()
    except SettingsError as error:
        stderr.print(str(error), markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
