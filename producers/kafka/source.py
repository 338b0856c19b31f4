"""The kind `kafka`: a topic of somebody else's, on any cluster. A run reads what was there when it began.

Where it is, is kept as committed offsets of a consumer group on that cluster. They are committed once our own broker
has confirmed the records: a run that dies is taken up from there, so nothing is lost and little is repeated.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from confluent_kafka import KafkaException
from pydantic import Field

from producers.kafka.foreign_records import ForeignRecords
from producers.kafka.places import FirstRun
from producers.kafka.reading import Reading
from producers.kafka.security import KafkaSecurity
from producers.source import SourceBatch, SourceBlock, SourceDescription
from runtime.kafka.clients import reason
from runtime.settings import Settings
from schemas.topics import all_topics

COMMIT_RECORDS = 20_000
COMMIT_SECONDS = 2.0
"""Offsets are committed after so many records or so long, whichever comes first: as much is repeated after a kill."""


class KafkaBlock(SourceBlock):
    """A block of kind `kafka`."""

    kind: Literal["kafka"]
    bootstrap_servers: Annotated[str, Field(min_length=1)]
    topic: Annotated[str, Field(min_length=1)]
    group: Annotated[str, Field(min_length=1)] | None = None
    """Consumer group that keeps the place; by default `headrace.<source>`, with the namespace before it."""
    start: FirstRun = "earliest"
    """Where the first run begins."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long the other side may be silent."""
    security: KafkaSecurity = KafkaSecurity()

    def build(self, name: str, settings: Settings, folder: Path) -> "KafkaSource":
        ours = {settings.named(topic.name) for topic in all_topics()}
        if self.topic in ours and self.bootstrap_servers == settings.kafka_bootstrap_servers:
            raise ValueError(f"topic = {self.topic!r}: this is a topic of this pipeline itself; it would feed itself")
        group = self.group or settings.named(f"headrace.{name}")
        return KafkaSource(self.describe(name), self, group, self.security.client_config(folder))


@dataclass(frozen=True)
class KafkaSource:
    """Somebody else's topic; implements Source. Partitions are read side by side, each in its order."""

    description: SourceDescription
    block: KafkaBlock
    group: str
    security: dict[str, str] = field(repr=False)

    async def batches(self) -> AsyncIterator[SourceBatch]:
        """From the committed offsets to the end as it is now, committing now and then. Implements Source."""
        block, name = self.block, self.description.name
        config = {**self.security, "bootstrap.servers": block.bootstrap_servers}
        reading = Reading(name, block.topic, self.group, config, block.timeout_seconds)
        try:
            await reading.begin(block.start)
            records = ForeignRecords(self.description)
            uncommitted, due_at = 0, time.monotonic() + COMMIT_SECONDS
            while reading.remaining:
                messages = await reading.poll()
                uncommitted += len(messages)
                due = uncommitted >= COMMIT_RECORDS or time.monotonic() > due_at or not reading.remaining
                commit = partial(reading.commit, reading.places()) if due else None
                yield SourceBatch([records.of(message) for message in messages], reading.done, on_confirmed=commit)
                if due:
                    uncommitted, due_at = 0, time.monotonic() + COMMIT_SECONDS
        except KafkaException as error:
            raise reading.failed(reason(error)) from error
        finally:
            await reading.close()
