"""`headrace topics`: the topics of the pipeline, as declared and as the broker has them."""

from typing import Annotated

import typer
from rich.table import Table

from commands.output import fail, print_json, stdout
from commands.trouble import answered_by
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import load_settings
from schemas.topics import all_topics


def topics(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False) -> None:
    """Show every topic: what it carries, who writes and reads it, its partitions and the offsets written so far.

    Examples:

      headrace topics

      headrace topics --json | jq '.[].name'
    """
    settings = load_settings()
    names = {topic.name: settings.named(topic.name) for topic in all_topics()}
    with answered_by("Kafka"):
        ends = end_offsets(settings, list(names.values()))
    rows = [
        {
            "name": physical,
            "partitions": sum(1 for place in ends if place.topic == physical),
            "written": sum(end for place, end in ends.items() if place.topic == physical),
            "carries": topic.carries,
            "written_by": topic.written_by,
            "read_by": list(topic.read_by),
        }
        for topic in all_topics()
        for physical in [names[topic.name]]
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("TOPIC", "PARTITIONS", "WRITTEN", "READ BY", "CARRIES", box=None)
    for topic, row in zip(all_topics(), rows, strict=True):
        partitions = str(row["partitions"] or "missing")
        written, readers = f"{row['written']:,}", ", ".join(topic.read_by)
        table.add_row(str(row["name"]), partitions, written, readers, topic.carries)
    stdout.print(table)
    if any(not row["partitions"] for row in rows):
        fail("some topics do not exist yet; `headrace setup` creates them")
