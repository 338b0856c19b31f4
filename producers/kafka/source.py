"""The kind `kafka`: somebody else's topic, on any cluster. A run reads the records that were there when it began.

Its position is the committed offsets of a consumer group on that cluster. They are committed once our own broker has
confirmed the records: after a run that died the next one goes on there, so nothing is lost and little is repeated.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from confluent_kafka import KafkaException, Message
from pydantic import Field

from producers.block import SourceBlock
from producers.kafka.reading import FirstRun, Reading
from producers.record_key import LONGEST_KEY, JsonRecordKey, RecordKey
from producers.source import RecordHeaders, SourceBatch, SourceDescription, SourceRecord
from runtime.kafka.clients import reason
from runtime.kafka.message_headers import message_headers
from runtime.kafka.security import KafkaSecurity
from runtime.settings import Settings
from schemas.events import HEADER_CONTENT_TYPE, HEADER_ORIGIN
from schemas.text import unmarked
from schemas.topics import all_topics

COMMIT_RECORDS = 20_000
COMMIT_SECONDS = 2.0
"""Offsets are committed after so many records or so long, whichever comes first: as much is repeated after a kill."""

OURS = ("headrace-", "ce_")
"""Headers that say something of the raw record itself; a foreign one must not pass for it."""


class KafkaBlock(SourceBlock):
    """A block of kind `kafka`."""

    kind: Literal["kafka"]
    bootstrap_servers: Annotated[str, Field(min_length=1)]
    topic: Annotated[str, Field(min_length=1)]
    group: Annotated[str, Field(min_length=1)] | None = None
    """Consumer group that keeps the place; by default `headrace.<source>`, with the namespace before it."""
    start: FirstRun = "earliest"
    """The end of the topic at which the first run begins."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Time that the other side may be silent."""
    security: KafkaSecurity = KafkaSecurity()
    """Table `security`."""

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
    security: dict[str, Any] = field(repr=False)

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
                commit = partial(reading.commit, reading.positions()) if due else None
                yield SourceBatch([records.of(message) for message in messages], reading.done, on_confirmed=commit)
                if due:
                    uncommitted, due_at = 0, time.monotonic() + COMMIT_SECONDS
        except KafkaException as error:
            raise reading.failed(reason(error)) from error
        finally:
            await reading.close()


class ForeignRecords:
    """Turns messages into records of one source: key, headers and deletes are carried over. Pure."""

    def __init__(self, source: SourceDescription) -> None:
        self._json_key = JsonRecordKey(source)
        self._key = RecordKey(source)

    def of(self, message: Message) -> SourceRecord:
        """The record. Its value is untouched; its key is the dataset's, from the value, else the message's own.

        A message without a value deletes: the id is its key, as text or as a JSON object with the key's members.
        """
        value, own = message.value(), message.key()
        headers = _headers(message)
        if value is None:
            return SourceRecord(None, self._deleted(own), None, headers)
        key = self._json_key.of(value)
        return SourceRecord(value, _text(own) if key is None else key, None, headers)

    def _deleted(self, own: bytes | None) -> str | None:
        if own is None:
            return None
        own = unmarked(own)
        if own.lstrip()[:1] == b"{":
            return self._json_key.of(own) or _text(own)
        # The last part of our key identifies the record within its source, as the source's own key does.
        return self._key.of_id(own.decode("utf-8", "replace")) or _text(own)


def _headers(message: Message) -> RecordHeaders:
    place = f"{message.topic()}:{message.partition()}:{message.offset()}"
    kept = tuple(
        (name, value)
        for name, value in message_headers(message)
        if not name.startswith(OURS) and name != HEADER_CONTENT_TYPE
    )
    return (*kept, (HEADER_ORIGIN, place.encode()))


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "replace")[:LONGEST_KEY]
