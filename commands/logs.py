"""`headrace logs`: what the processes write, in one order of time."""

import datetime
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.text import Text

from commands.output import WRONG_USAGE, fail, stderr, stdout
from commands.printable import json_text
from local_stack.containers import show_logs
from local_stack.log_entries import LEVELS, Level, LogEntry, entries, merged, wanted
from local_stack.log_reading import ending, follow
from local_stack.state_folder import StateFolder
from runtime.moments import moment
from runtime.printable import printable
from runtime.settings import load_settings

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red", "bright_cyan", "bright_green", "bright_yellow")
LEVEL_STYLES = {"debug": "dim", "info": "", "warning": "yellow", "error": "red", "critical": "bold red"}

USUAL_LINES = 50

MOST_BYTES = 16_777_216
"""Bytes of a log that are looked through for entries that are asked for by time, text or level."""

FEW_BYTES = 262_144
"""Bytes that hold the last entries of a log, where nothing else is asked for."""


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Processes, as `headrace status` names them; all by default.")
    ] = None,
    follow_them: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new entries until Ctrl-C.")] = False,
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", min=0, help="How many of the last entries of each: 50, with --since all."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of then or later: 10m, 2h, 1d ago, or ISO 8601.")
    ] = None,
    grep: Annotated[
        str | None, typer.Option(metavar="REGEX", help="With this in process, event or fields; case does not matter.")
    ] = None,
    level: Annotated[str | None, typer.Option(metavar="LEVEL", help="At least so grave: warning, error, …")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, an entry a line; so does a pipe or file as output.")
    ] = False,
) -> None:
    """Print the last entries of the processes' logs in one order of time, and follow them.

    Entries of ours are time, process, level, event and their fields; servers keep their words. A traceback stays with
    its entry. Times are UTC. The logs themselves are files in HEADRACE_HOME/logs.

    With HEADRACE_STACK=docker it is what `docker compose logs` prints.

    Examples:

      headrace logs

      headrace logs normalizer sink-postgres -f

      headrace logs --since 10m --level warning

      headrace logs --grep 'CUST001|rebalance' -n 20

      headrace logs api --since 1h | jq 'select(.status >= 500)'
    """
    settings = load_settings()
    if settings.headrace_stack == "docker":
        if since or grep or level or as_json:
            fail("--since, --grep, --level and --json are for the native stack; docker compose logs has --since.")
        _show_containers(names or [], follow=follow_them, lines=USUAL_LINES if lines is None else lines)
    after, pattern, least = _since(since), _pattern(grep), _level(level)
    state = StateFolder.at(settings.home)
    chosen = _choose(state, names or [])
    narrowed = since is not None or grep is not None or level is not None
    number = lines if lines is not None else None if since is not None else USUAL_LINES
    width = max(len(log.stem) for log in chosen)
    colours = {log.stem: COLOURS[place % len(COLOURS)] for place, log in enumerate(chosen)}
    piped = as_json or not stdout.is_terminal

    def show(found: Iterable[LogEntry]) -> None:
        for entry in found:
            if not wanted(entry, after, pattern, least):
                continue
            if piped:
                typer.echo(json_text(entry.json()))
            else:
                stdout.print(entry_text(entry, width, colours[entry.process]))

    try:
        show(merged(_last(log, number, after, pattern, least, narrowed=narrowed) for log in chosen))
        if follow_them:
            for found in follow(chosen):
                show(merged(_new(name, lines) for name, lines in found.items()))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def entry_text(entry: LogEntry, width: int, colour: str) -> Text:
    """An entry for people: nothing in it reaches the terminal as it is. Pure."""
    when = entry.at.strftime("%m-%d %H:%M:%S.%f")[:18] if entry.at else " " * 18
    style = LEVEL_STYLES.get(entry.level or "", "")
    text = Text.assemble(
        (when, "dim"), "  ", (f"{entry.process:<{width}}", colour), "  ", (f"{entry.level or '-':<8}", style), " "
    )
    text.append(printable(entry.event), "bold" if entry.fields else style)
    for name, value in entry.fields.items():
        text.append(f" {printable(name)}=", "dim").append(printable(_value(value)))
    for line in entry.more:
        text.append(f"\n    {printable(line.expandtabs(4))}", "dim")
    return text


def _value(value: object) -> str:
    if isinstance(value, str):
        return value if value and " " not in value else msgspec.json.encode(value).decode()
    return msgspec.json.encode(value).decode()


def _last(
    log: Path,
    number: int | None,
    after: datetime.datetime | None,
    pattern: re.Pattern[str] | None,
    least: Level | None,
    *,
    narrowed: bool,
) -> list[LogEntry]:
    """The last entries of a log that are asked for."""
    if number == 0:
        return []
    found, cut = ending(log, MOST_BYTES if narrowed or (number or 0) > USUAL_LINES else FEW_BYTES)
    every = list(entries(log.stem, found))
    chosen = [entry for entry in every if wanted(entry, after, pattern, least)]
    reached = number is not None and len(chosen) >= number
    if narrowed and cut and not reached and every and (after is None or (every[0].at and every[0].at > after)):
        stderr.print(
            f"{log.stem}: only the last {MOST_BYTES // 1_048_576} MB were looked through, since {every[0].at:%F %T}",
            style="yellow",
            markup=False,
        )
    return chosen if number is None else chosen[-number:]


def _new(name: str, lines: list[str]) -> list[LogEntry]:
    """The entries in lines that have just been written; a rest of one that is shown already has the time of now."""
    found = list(entries(name, lines))
    for entry in found:
        entry.at = entry.at or datetime.datetime.now(datetime.UTC)
    return found


def _since(text: str | None) -> datetime.datetime | None:
    try:
        return None if text is None else moment(text, datetime.datetime.now(datetime.UTC))
    except ValueError as error:
        fail(f"--since {error}", WRONG_USAGE)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text, re.IGNORECASE)
    except re.error as error:
        fail(f"--grep {text!r} is no regular expression: {error}", WRONG_USAGE)


def _level(text: str | None) -> Level | None:
    if text is None:
        return None
    found = next((level for level in LEVELS if text.lower() in (level, {"warning": "warn"}.get(level))), None)
    if found is None:
        fail(f"--level {text!r}: expected one of {', '.join(LEVELS)}", WRONG_USAGE)
    return found


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
