"""The Kafka headers of a raw record: ours and CloudEvents' (Kafka binding, binary mode), built once per run."""

import datetime
from collections.abc import Mapping

from producers.source import SourceDescription
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


class RawHeaders:
    """Headers of one run. All but `ce_id` are the same for the records of a batch."""

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
        self._batch: list[Header] = []
        self._readable: list[Header] = []
        self.start_batch()

    def start_batch(self, readings: Mapping[str, FieldReading] | None = None) -> None:
        """Take the time of the records that follow, and how to read them if that is not as the description says."""
        mapping = self._mapping if readings is None else encode_mapping(readings)
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._batch = [*self._constant, ("ce_time", time.encode()), *([(HEADER_MAPPING, mapping)] if mapping else [])]
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
