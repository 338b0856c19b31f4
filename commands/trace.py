"""`headrace trace`: one record followed from its source to the API."""

import asyncio
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from commands.output import WRONG_USAGE, fail, print_json, stdout, waiting_for
from runtime.printable import printable
from runtime.settings import Settings, load_settings
from schemas.registry import UnknownDataset, all_datasets, dataset_named
from services.trace.model import StoreAnswer, Trace, TraceEvent
from services.trace.trace import NoSuchKey, opened
from services.trace.trace import trace as trace_key

STYLES = {
    **dict.fromkeys(("failed", "unreadable"), "red"),
    **dict.fromkeys(("held", "pending", "on its way"), "yellow"),
    **dict.fromkeys(("stored", "clean", "changed"), "green"),
    **dict.fromkeys(("superseded", "no change"), "dim"),
}

STORE_STYLES = {"has it": "green", "older": "yellow", "newer": "yellow", "away": "red", "none": "dim", "has not": "dim"}

WIDTH = 80


def trace(
    key: Annotated[str, typer.Argument(metavar="KEY", help="In any form; of records it is source_name:source_id.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", metavar="NAME", help="By default all are asked.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for scripts: a list, one trace a dataset.")
    ] = False,
) -> None:
    """Follow a key: every record of it through topic, agent, Postgres, change event, Elasticsearch, Redis and API.

    With times, offsets, versions and outcomes, in order of time; then how each store has the key now, and what could
    not be seen. A store that does not answer is told, and no error. Only the partition of the key is read.

    Exit code 1 if nothing is known of the key, 2 for a dataset that does not exist or a key that no record can have.

    Examples:

      headrace trace CUST001

      headrace trace titanic:17 --dataset records

      headrace trace CUST001 --json | jq '.[0].events[] | [.at, .stage, .outcome]'
    """
    settings = load_settings()
    try:
        chosen = [dataset_named(dataset)] if dataset else list(all_datasets())
    except UnknownDataset as error:
        fail(str(error), WRONG_USAGE)
    with waiting_for("the stores"):
        found, wrong = asyncio.run(_traces(settings, [one.name for one in chosen], key))
    if not found:
        fail("; ".join(wrong), WRONG_USAGE)
    known = [one for one in found if one.known]
    if as_json:
        print_json(known or found)
    elif known:
        for number, one in enumerate(known):
            if number:
                stdout.print()
            for line in lines_of(one):
                stdout.print(line)
    else:
        for one in found:
            stdout.print(printable(one.summary), markup=False)
            for note in one.notes:
                stdout.print(f"  {printable(note)}", markup=False, style="yellow")
    if not known:
        raise typer.Exit(1)


async def _traces(settings: Settings, names: list[str], key: str) -> tuple[list[Trace], list[str]]:
    """A trace of each dataset that can have the key, and of the others why they cannot."""
    found, wrong = [], []
    async with opened(settings) as stores:
        for name in names:
            try:
                found.append(
                    await trace_key(stores, dataset_named(name), key, masked=settings.personal_data == "masked")
                )
            except NoSuchKey as error:
                wrong.append(str(error))
    return found, wrong


def lines_of(one: Trace) -> Iterator[Text]:
    """A trace for people, in lines of 80 columns where its names are short. Pure."""
    yield Text(printable(one.summary), "bold")
    day = None
    raw = None
    for event in one.events:
        if event.at is not None and _day(event.at) != day:
            day = _day(event.at)
            yield Text(f"\n{day} UTC", "dim")
        about = (event.raw_topic, event.raw_partition, event.raw_offset)
        yield from _event_lines(event, names_record=about != raw and event.raw_topic is not None)
        raw = about
    yield Text("\nnow", "dim")
    for store in one.stores:
        yield _store_line(store)
    for note in one.notes:
        yield from _wrapped(f"note: {note}", 2, "yellow")


def _event_lines(event: TraceEvent, *, names_record: bool) -> Iterator[Text]:
    """When, stage, outcome, version, and the place: that of the raw record where it begins, else the event's own."""
    when = event.at.astimezone(UTC).strftime("%H:%M:%S.%f")[:12] if event.at else " " * 12
    version = f"v{event.version}" if event.version is not None else ""
    place = ""
    if event.topic is not None:
        place = f"{event.topic}/{event.partition} @ {event.offset}"
        if names_record and event.topic != event.raw_topic:
            place += f" of raw @ {event.raw_offset}"
    elif names_record:
        place = f"of {event.raw_topic}/{event.raw_partition} @ {event.raw_offset}"
    elif event.failure is not None:
        place = f"failure {event.failure}"
    outcome = Text(f"{event.outcome:<11}", STYLES.get(event.outcome, ""))
    line = Text.assemble(f"  {when}  {event.stage:<10}  ", outcome, f" {version:<8} {printable(place)}")
    line.rstrip()
    yield line
    about = [f"source {event.source}" if event.source else "", f"run {event.run}" if event.run else ""]
    if event.failure is not None and event.topic is None and names_record:
        about.append(f"failure {event.failure}")
    for text in (", ".join(filter(None, about)), event.detail):
        if text:
            yield from _wrapped(text, 16, "dim")


def _store_line(store: StoreAnswer) -> Text:
    version = f"v{store.version}" if store.version is not None else ""
    state = Text(f"{store.state:<11}", STORE_STYLES.get(store.state, ""))
    line = Text.assemble(f"  {store.store:<14}", state, f" {version:<8} {printable(store.detail or '')}")
    line.rstrip()
    return line


def _wrapped(text: str, indent: int, style: str) -> Iterator[Text]:
    for line in textwrap.wrap(printable(text), WIDTH - indent, break_long_words=True, break_on_hyphens=False):
        yield Text(f"{' ' * indent}{line}", style)


def _day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d")
