"""`headrace alarms`: what is wrong by the rules of alarms.toml, and a test of who would be told."""

import asyncio
import datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection

from commands.output import WRONG_USAGE, fail, print_json, stdout
from commands.trouble import answered_by
from monitoring.alarm_file import AlarmFile, AlarmFileError, Target, load_alarms
from runtime.egress import Egress
from runtime.printable import printable
from runtime.settings import Settings, load_settings
from services.alarms.telling import open_client, send, trial_event
from services.runs.history import ask
from stores.alarms import closed_alarms, open_alarms

alarms = typer.Typer(invoke_without_command=True)

COLOURS = {"critical": "red", "warning": "yellow", "info": "default"}


@alarms.callback()
def shown(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as GET /alarms does.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, max=1000, help="Closed alarms to show.")] = 10,
) -> None:
    """Show the alarms that are open by the rules of alarms.toml, and the latest that were.

    The role `monitor` judges every few seconds, and tells the log and the webhooks of alarms.toml when one opens or
    closes.

    Examples:

      headrace alarms

      headrace alarms --json | jq '.open[].text'

      headrace alarms test
    """
    if context.invoked_subcommand:
        return
    settings = load_settings()
    file = _file(settings)

    async def read(connection: AsyncConnection) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return await open_alarms(connection), await closed_alarms(connection, limit)

    with answered_by("Postgres"):
        still_open, closed = asyncio.run(ask(settings, read))
    if as_json:
        print_json({"open": still_open, "closed": closed})
        return
    if still_open or closed:
        stdout.print(_table(still_open, closed))
    if not file.rules:
        stdout.print(f"There are no rules in {settings.alarms_file}, so nothing is judged.", style="yellow")
    elif not still_open:
        stdout.print(f"No alarm is open by the {len(file.rules)} rules of {settings.alarms_file}.")


@alarms.command("test")
def try_targets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: each target with its problem or null.")] = False,
) -> None:
    """Send a test event to every target of alarms.toml, once. Exit code 1 if one does not take it.

    Examples:

      headrace alarms test

      ALARMS_FILE=new.toml headrace alarms test --json
    """
    settings = load_settings()
    file = _file(settings)
    if not file.targets:
        fail(f"{settings.alarms_file} has no [targets.NAME]; add one, with kind and url")
    problems = asyncio.run(_try(file, Egress.of(settings)))
    if as_json:
        print_json(problems)
    else:
        for name, problem in problems.items():
            stdout.print(f"{name}: {problem or 'has taken it'}", markup=False, style="red" if problem else "green")
    raise typer.Exit(1 if any(problems.values()) else 0)


def _file(settings: Settings) -> AlarmFile:
    try:
        return load_alarms(settings)
    except AlarmFileError as error:
        fail(str(error), WRONG_USAGE)


async def _try(file: AlarmFile, egress: Egress) -> dict[str, str | None]:
    event = trial_event(file.targets)

    async def tried(target: Target) -> str | None:
        async with open_client(egress, target) as client:
            return (await send(client, target, event))[0]

    answers = await asyncio.gather(*(tried(target) for target in file.targets.values()))
    return dict(zip(file.targets, answers, strict=True))


def _table(still_open: list[dict[str, Any]], closed: list[dict[str, Any]]) -> Table:
    table = Table("STATE", "SEVERITY", "RULE", "SINCE", "UNTIL", "WHAT", box=None)
    for one in (*still_open, *closed):
        state = "closed" if one["closed_at"] else "open"
        colour = COLOURS.get(one["severity"], "default") if state == "open" else "dim"
        text = Text(printable(str(one["text"])))
        cells = (state, one["severity"], one["rule"], _at(one["since"]), _at(one["closed_at"]), text)
        table.add_row(*cells, style=colour)
    return table


def _at(when: float | None) -> str:
    return f"{datetime.datetime.fromtimestamp(when, datetime.UTC):%Y-%m-%d %H:%M:%SZ}" if when else "-"
