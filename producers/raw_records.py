"""Raw records as they stand in `<dataset>.raw`: their topic, their headers, and how large they may be."""

import datetime
import time
from collections.abc import Mapping

from confluent_kafka import KafkaException

from producers.source import SourceDescription, SourceRecord
from runtime.errors import DeliveryFailed
from runtime.kafka.topic_admin import admin_client
from runtime.settings import Settings
from runtime.tracing import trace_headers
from schemas.events import (
    HEADER_CONTENT_TYPE,
    HEADER_KIND,
    HEADER_MAPPING,
    HEADER_PROBLEM,
    HEADER_RUN,
    HEADER_SOURCE,
)
from schemas.field_reading import FieldReading, encode_mapping

Header = tuple[str, str | bytes | None]

LONGEST_PROBLEM = 500
"""Characters of a problem's message that travel in a header."""

UNREADABLE_CONTENT_TYPE = b"application/octet-stream"

LARGEST_VALUE_BYTES = 5 * 1_048_576
"""A larger one would not fit into the envelope of a failure (base64, see MAX_MESSAGE_BYTES)."""

KEPT_OF_LARGE_VALUE_BYTES = 65_536

CONNECT_SECONDS = 10.0
TOPIC_SECONDS = 3.0
"""A topic that has just been created is not in every broker's metadata yet."""

POLL_SECONDS = 0.1


class RawHeaders:
    """Headers of one run: ours and CloudEvents' (Kafka binding, binary mode).

    All but `ce_id` are the same for the records of a batch.
    """

    def __init__(self, source: SourceDescription, run_id: str) -> None:
        self._mapping = encode_mapping(source.field_readings())
        self._constant: list[Header] = [
            (HEADER_SOURCE, source.name.encode()),
            (HEADER_KIND, source.kind.encode()),
            (HEADER_RUN, run_id.encode()),
            ("ce_specversion", b"1.0"),
            ("ce_type", source.dataset.raw_topic.encode()),
            ("ce_source", source.name.encode()),
        ]
        self._content_type = source.content_type.encode()
        self._run_id = run_id
        self.start_batch()

    def start_batch(self, readings: Mapping[str, FieldReading] | None = None) -> None:
        """Take time and trace of the records that follow, and how to read them if not as the description says."""
        mapping = self._mapping if readings is None else encode_mapping(readings)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        mapped: list[Header] = [(HEADER_MAPPING, mapping)] if mapping else []
        self._batch = [*self._constant, ("ce_time", now.encode()), *mapped, *trace_headers()]
        self._readable = [*self._batch, (HEADER_CONTENT_TYPE, self._content_type)]

    def of(self, number: int, problem: str | None) -> list[Header]:
        """The headers of the run's `number`-th record (its CloudEvents id is `<run>-<number>`)."""
        identity = ("ce_id", f"{self._run_id}-{number}".encode())
        if problem is None:
            return [*self._readable, identity]
        return [
            *self._batch,
            (HEADER_CONTENT_TYPE, UNREADABLE_CONTENT_TYPE),
            (HEADER_PROBLEM, problem[:LONGEST_PROBLEM].encode("utf-8", "replace")),
            identity,
        ]


def fitting(record: SourceRecord) -> SourceRecord:
    """The record itself; of one that is too large its beginning, marked so that it becomes a failure. Pure."""
    value = record.value
    if value is None or len(value) <= LARGEST_VALUE_BYTES:
        return record
    kept = value[:KEPT_OF_LARGE_VALUE_BYTES]
    message = f"{len(value):,} bytes, at most {LARGEST_VALUE_BYTES:,} are taken; the first {len(kept):,} are kept"
    return SourceRecord(kept, record.key, f"record_too_large;{message}", record.headers)


def require_topic(settings: Settings, topic: str, seconds: float = CONNECT_SECONDS) -> None:
    """Ask for the topic before anything is read. Blocking, at most `seconds`.

    Raises DeliveryFailed when Kafka does not answer or the topic does not exist.
    """
    admin = admin_client(settings)
    deadline = time.monotonic() + min(TOPIC_SECONDS, seconds)
    try:
        # Asked without naming the topic: a broker that creates topics on demand would make it with its own defaults.
        while topic not in admin.list_topics(timeout=seconds).topics:
            if time.monotonic() > deadline:
                raise DeliveryFailed(f"topic {topic} does not exist yet; `headrace setup` creates it")
            time.sleep(POLL_SECONDS)
    except KafkaException as error:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} does not answer ({error.args[0].str()}); "
            "`headrace up` starts the stack, `headrace status` says what is down"
        ) from error
