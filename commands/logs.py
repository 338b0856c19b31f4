"""`headrace logs`: what the processes write."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from commands.output import fail, stdout
from local_stack.containers import show_logs
from local_stack.log_reading import follow, tail
from local_stack.state_folder import StateFolder
from runtime.settings import load_settings

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red", "bright_cyan", "bright_green", "bright_yellow")


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Processes, as `headrace status` names them; all by default.")
    ] = None,
    follow_them: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each.")] = 50,
) -> None:
    """Print the last lines of the processes' logs, and follow them.

    Examples:

      headrace logs

      headrace logs normalizer sink-postgres -f

      headrace logs kafka -n 200
    """
    settings = load_settings()
    if settings.headrace_stack == "docker":
        _show_containers(names or [], follow=follow_them, lines=lines)
    state = StateFolder.at(settings.home)
    chosen = _choose(state, names or [])
    width = max(len(log.stem) for log in chosen)
    colours = {log.stem: COLOURS[place % len(COLOURS)] for place, log in enumerate(chosen)}

    def show(found: Iterable[tuple[str, str]]) -> None:
        for name, line in found:
            prefix = Text(f"{name:<{width}} | ", style=colours[name]) if len(chosen) > 1 else Text()
            stdout.print(prefix + Text.from_ansi(line))

    try:
        show(tail(chosen, lines))
        if follow_them:
            show(follow(chosen))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _show_containers(names: list[str], *, follow: bool, lines: int) -> NoReturn:
    try:
        raise typer.Exit(show_logs(names, follow=follow, lines=lines))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _choose(state: StateFolder, names: list[str]) -> list[Path]:
    there = {log.stem: log for log in sorted(state.logs.glob("*.log"))}
    if not there:
        fail(f"There are no logs in {state.logs}: no stack has been started there yet.")
    if unknown := [name for name in names if name not in there]:
        fail(f"No log of {', '.join(unknown)}. There are: {', '.join(there)}.")
    return [there[name] for name in names or there]
