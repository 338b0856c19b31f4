"""`headrace topics`: the topics of the pipeline, as declared and as the broker has them, and what lies in them."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from commands.output import WRONG_USAGE, fail, print_json, stdout
from commands.printable import json_text
from commands.trouble import answered_by
from runtime.kafka.topic_admin import admin_client
from runtime.printable import printable
from runtime.settings import Settings, load_settings
from schemas.topics import all_topics
from services.topics.listing import ListedTopic, UnknownTopic, list_topics, unknown_topic
from services.topics.peek import (
    MOST_MESSAGES,
    USUAL_MESSAGES,
    LookedRange,
    Peeked,
    PeekQuestion,
    WrongPeek,
    follow_topic,
    peek,
)
from services.topics.shown import ShownMessage

LONGEST_SHOWN = 4_000
"""Characters of a value on a terminal; --json has more."""

BINARY_COLUMNS = 96
"""Hexadecimal digits in a line."""


class _ShowsByDefault(TyperGroup):
    """`headrace topics NAME` shows a topic: what is no command is an argument of `show`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


topics = typer.Typer(
    cls=_ShowsByDefault,
    help="Show every topic or one: what it carries, who reads it, partitions, retention; `peek` shows messages.",
    epilog="Examples:\n\n  headrace topics\n\n  headrace topics customers.changed\n\n"
    "  headrace topics peek customers.raw --key CUST001",
)


@topics.command()
def show(
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help="Tell all of this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show every topic: what it carries, who reads it, its partitions, the offsets written so far, how long it is kept.

    Of a single one also who writes it, the form of keys and values, and an example. `show` may be left out.

    Examples:

      headrace topics

      headrace topics customers.changed

      headrace topics --json | jq '.[].name'
    """
    settings = load_settings()
    declared = {settings.named(one.name): one for one in all_topics()}
    names = list(declared)
    if topic is not None:
        names = [name for name, one in declared.items() if topic in (name, one.name)]
        if not names:
            fail(str(unknown_topic(topic, [one.name for one in declared.values()])), WRONG_USAGE)
    with answered_by("Kafka"):
        rows = list_topics(settings, admin_client(settings), names)
    if as_json:
        print_json(rows)
        return
    if topic is None:
        table = Table("TOPIC", "PARTITIONS", "WRITTEN", "KEPT", "READ BY", "CARRIES", box=None)
        for row in rows:
            partitions, readers = str(row.partitions or "missing"), ", ".join(row.read_by)
            table.add_row(row.name, partitions, f"{row.written:,}", _kept(row), readers, row.carries)
        stdout.print(table)
    else:
        for row in rows:
            for name, value in _lines(row).items():
                stdout.print(f"{name:15}{value}", markup=False)
    if any(not row.partitions for row in rows):
        fail("some topics do not exist yet; `headrace setup` creates them")


@topics.command("peek")
def peek_command(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Any topic of the broker.")],
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only of this key, given in any form.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="-N|OFFSET|TIME", help="The newest N, or from there on: 30m, or ISO 8601."),
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only this partition.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST_MESSAGES, help="How many at most.")] = (
        USUAL_MESSAGES
    ),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts; with -f a line a message.")] = False,
) -> None:
    """Show messages, newest first: key, place, time, headers, and the value as JSON, as text or in hexadecimal.

    Nothing is committed, and no consumer group comes to be. What a transaction has not committed is not shown.
    With --key only the key's partition is read, back from its end. A look ends after 5 s or 32 MB; the last line says
    how far it got.

    Exit code 1 if there was nothing to show, 2 for a topic that does not exist.

    Examples:

      headrace topics peek customers.raw

      headrace topics peek customers.changed --key CUST001

      headrace topics peek failures --from 30m --limit 50

      headrace topics peek orders.clean --partition 2 --from 1200

      headrace topics peek customers.raw -f --json | jq .value
    """
    settings = load_settings()
    question = PeekQuestion(topic, partition, key, start, limit, masked=settings.personal_data == "masked")
    try:
        with answered_by("Kafka"):
            if follow:
                _print_following(settings, question, as_json)
                return
            found = peek(settings, admin_client(settings), question)
    except UnknownTopic as error:
        fail(str(error), WRONG_USAGE)
    except WrongPeek as error:
        fail(f"--{error.parameter} {error}", WRONG_USAGE)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    if as_json:
        print_json(found)
    else:
        for message in found.messages:
            stdout.print(message_text(message), end="\n\n")
        for line in closing_lines(found):
            stdout.print(line, markup=False, style="dim")
    if not found.messages:
        raise typer.Exit(1)


def _print_following(settings: Settings, question: PeekQuestion, as_json: bool) -> None:
    for message in follow_topic(settings, admin_client(settings), question):
        if as_json:
            typer.echo(json_text(message))
        else:
            stdout.print(message_text(message), end="\n\n")


def message_text(message: ShownMessage) -> Text:
    """A message for people, over several lines; nothing in it reaches the terminal as it is. Pure."""
    when = message.timestamp.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    key = "without a key" if message.key is None else printable(message.key)
    text = Text.assemble(
        (f"{message.topic}/{message.partition} @ {message.offset}", "bold"), f"  {when}  ", (key, "cyan")
    )
    if message.remark:
        text.append(f"\n  {printable(message.remark)}", "yellow")
    for name, value in message.headers.items():
        text.append(f"\n  {printable(name)}: ", "dim").append("-" if value is None else printable(value), "dim")
    for line in _value_lines(message):
        text.append(f"\n  {line}")
    if message.payload is not None:
        text.append(f"\n  the rejected bytes: {printable(message.payload[:LONGEST_SHOWN])}")
    return text


def closing_lines(found: Peeked) -> Iterator[str]:
    """Lines on what was looked at, and what was not: nothing is guessed in silence. Pure."""
    whose = "" if found.key is None else f" of the key {printable(found.key)}"
    number = len(found.messages)
    kept = sum(one.kept_to - one.kept_from for one in found.looked)
    if not kept:
        yield f"{found.topic} is empty" + (f" in partition {found.looked[0].partition}" if whose else "")
        return
    yield f"{number} message{'s' * (number != 1)}{whose}; looked at {', '.join(map(_range_text, found.looked))}"
    if found.stopped:
        yield f"It stopped early: {found.stopped}. --partition and --from look at the rest."
    elif found.key is not None and all(one.first <= one.kept_from for one in found.looked):
        [one] = found.looked
        gone = f"; retention has taken what was before offset {one.kept_from}" if one.kept_from else ""
        yield f"That is all that the partition of this key keeps{gone}."


def _range_text(one: LookedRange) -> str:
    if one.first >= one.end:
        return f"none of {one.kept_from}-{one.kept_to - 1} in partition {one.partition}"
    return f"offsets {one.first}-{one.end - 1} of {one.kept_from}-{one.kept_to - 1} in partition {one.partition}"


def _value_lines(message: ShownMessage) -> Iterator[str]:
    if message.kind == "none":
        return
    if message.kind == "binary":
        digits = message.value[:LONGEST_SHOWN]
        yield f"{message.bytes:,} bytes that are no text, in hexadecimal:"
        yield from (digits[at : at + BINARY_COLUMNS] for at in range(0, len(digits), BINARY_COLUMNS))
        shown, whole = len(digits) // 2, message.bytes
    else:
        text = message.value
        if message.kind == "json" and not message.truncated:
            text = msgspec.json.format(bytes(message.value), indent=2).decode()
        yield from map(printable, text[:LONGEST_SHOWN].splitlines())
        shown, whole = min(len(text), LONGEST_SHOWN), message.bytes if message.truncated else len(text)
    if shown < whole:
        yield f"… {message.bytes:,} bytes in all; --json shows more"


def _lines(row: ListedTopic) -> dict[str, str]:
    """One topic for people."""
    offsets = ", ".join(f"{one.partition}: {one.first}-{one.end}" for one in row.offsets)
    return {
        "name": row.name,
        "partitions": str(row.partitions),
        "written": str(row.written),
        "kept": _kept(row),
        "offsets": offsets or "-",
        "cleanup policy": row.cleanup_policy,
        "carries": row.carries,
        "description": row.description,
        "written by": row.written_by,
        "read by": ", ".join(row.read_by),
        "key": row.key,
        "value": row.value,
        "version": str(row.version),
        "example": msgspec.json.encode(row.example).decode(),
    }


def _kept(row: ListedTopic) -> str:
    days, hours = divmod(row.kept_hours, 24)
    return f"{row.kept_hours} h" if hours else f"{days} d"
