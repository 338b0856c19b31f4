"""`headrace status`: how every process stands, from its own mouth."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from commands.output import print_json, stdout
from local_stack.containers import examine_containers
from local_stack.process_status import ProcessStatus
from local_stack.processes import examine
from local_stack.state_folder import StateFolder
from rehearsals.file import Rehearsal, running
from runtime.settings import load_settings
from services.failures.held_lines import held_lines


def status(
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print a list of {name, pid, state, port, restarts, watchdog_restarts, problem, note, outdated, "
            "rehearsals}.",
        ),
    ] = False,
) -> None:
    """Ask the supervisor and each process and server itself. Exit code 1 if anything is down or paused.

    With HEADRACE_STACK=docker the containers are asked, by their health checks; `done` is what was to run once.

    A process is `running` only if it is alive and answers: Kafka a metadata request, Postgres a query, Redis a read of
    the cache, Elasticsearch its cluster health, ours /health. Records that are held are told below, a line per source.

    A process that runs older code, datasets or settings than `headrace restart` from here would give it is told, and is
    no error.

    Examples:

      headrace status

      headrace status --json
    """
    settings = load_settings()
    state = StateFolder.at(settings.home)
    statuses = examine_containers() if settings.headrace_stack == "docker" else examine(state)
    rehearsals = running(state.home)
    if as_json:
        print_json([_row(one, rehearsals) for one in statuses])
    elif statuses:
        stdout.print(_table(statuses))
        for one in rehearsals:
            stdout.print(f"rehearsal {one}", style="yellow")
        for line in asyncio.run(held_lines(settings)):
            stdout.print(line, style="yellow", markup=False)
    else:
        where = "containers" if settings.headrace_stack == "docker" else str(state.home)
        stdout.print(f"No stack has been started in {where} yet: headrace up")
    if not statuses or not all(one.is_well and not one.note for one in statuses):
        raise typer.Exit(1)


def _row(one: ProcessStatus, rehearsals: list[Rehearsal]) -> dict[str, object]:
    role = one.name.rstrip("-0123456789").removeprefix("sink-")
    return asdict(one) | {"rehearsals": [str(one) for one in rehearsals if one.stage == role]}


def _table(statuses: list[ProcessStatus]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("process", "state", "pid", "port", "restarts", ""):
        table.add_column(column, justify="right" if column in ("pid", "port", "restarts") else "left")
    for one in statuses:
        style = ("yellow" if one.note or one.outdated else "green") if one.is_well else "red"
        pid = str(one.pid or "-")
        name, state = one.name, f"[{style}]{one.state}[/]"
        told = "; ".join(filter(None, (one.problem or one.note, one.outdated)))
        restarts = f"{one.restarts} ({one.watchdog_restarts} stalled)" if one.watchdog_restarts else str(one.restarts)
        table.add_row(name, state, pid, str(one.port or "-"), restarts, escape(told))
    return table
