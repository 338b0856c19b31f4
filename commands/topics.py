"""`headrace topics`: the topics of the pipeline, as declared and as the broker has them."""

from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from commands.output import WRONG_USAGE, fail, print_json, stdout
from commands.trouble import answered_by
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import load_settings
from schemas.topics import Topic, all_topics


def topics(
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help="Tell all of this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show every topic: what it carries, who reads it, its partitions, the offsets written so far, how long it is kept.

    Of a single one also who writes it, the form of keys and values, and an example.

    Examples:

      headrace topics

      headrace topics customers.changed

      headrace topics --json | jq '.[].name'
    """
    settings = load_settings()
    declared = {settings.named(one.name): one for one in all_topics()}
    if topic is not None:
        declared = {name: one for name, one in declared.items() if topic in (name, one.name)}
        if not declared:
            fail(f"there is no topic {topic!r}; `headrace topics` lists them", WRONG_USAGE)
    with answered_by("Kafka"):
        ends = end_offsets(settings, list(declared))
    rows = [
        {
            "name": name,
            "partitions": sum(1 for place in ends if place.topic == name),
            "written": sum(end for place, end in ends.items() if place.topic == name),
            "kept_hours": one.retention * settings.topic_retention_hours,
            **_described(one),
        }
        for name, one in declared.items()
    ]
    if as_json:
        print_json(rows)
        return
    if topic is None:
        table = Table("TOPIC", "PARTITIONS", "WRITTEN", "KEPT", "READ BY", "CARRIES", box=None)
        for row in rows:
            partitions, readers = str(row["partitions"] or "missing"), ", ".join(row["read_by"])
            table.add_row(row["name"], partitions, f"{row['written']:,}", _kept(row), readers, row["carries"])
        stdout.print(table)
    else:
        for row in rows:
            for name, value in _lines(row).items():
                stdout.print(f"{name.replace('_', ' '):15}{value}", markup=False)
    if any(not row["partitions"] for row in rows):
        fail("some topics do not exist yet; `headrace setup` creates them")


def _described(topic: Topic) -> dict[str, Any]:
    return {
        "cleanup_policy": topic.cleanup_policy,
        "carries": topic.carries,
        "description": topic.description,
        "written_by": topic.written_by,
        "read_by": list(topic.read_by),
        "key": topic.key,
        "value": topic.value.__name__ if topic.value else "the source's bytes",
        "version": topic.version,
        "example": msgspec.json.decode(topic.example) if topic.example else None,
    }


def _lines(row: dict[str, Any]) -> dict[str, str]:
    """One topic for people."""
    shown = {**row, "kept_hours": _kept(row), "read_by": ", ".join(row["read_by"])}
    shown["example"] = msgspec.json.encode(row["example"]).decode()
    return {name.replace("_hours", ""): str(value) for name, value in shown.items()}


def _kept(row: dict[str, Any]) -> str:
    days, hours = divmod(row["kept_hours"], 24)
    return f"{row['kept_hours']} h" if hours else f"{days} d"
