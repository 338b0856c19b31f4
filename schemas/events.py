"""The messages on the topics, as they are in JSON. Envelopes are typed; `data` passes through as bytes, unparsed.

Raw records have no envelope: their value is the source's bytes, and what is known about them is in headers.
"""

from typing import Literal

import msgspec

from schemas.errors import FieldProblem

# Headers of raw records, all optional: a foreign producer may set none.
HEADER_SOURCE = "headrace-source"
"""Name of the source block, e.g. `titanic`."""
HEADER_KIND = "headrace-kind"
"""Kind of the source: api, csv, push, …"""
HEADER_RUN = "headrace-run"
"""Run id (UUID) of the ingestion run."""
HEADER_MAPPING = "headrace-mapping"
"""Compact JSON object {field: column}: how to read the value. It travels along, so a replay needs no settings."""
HEADER_CONTENT_TYPE = "content-type"
HEADER_ORIGIN = "headrace-origin"
"""Coordinates in the foreign topic that the record was read from: `topic:partition:offset`."""
HEADER_PROBLEM = "headrace-problem"
"""Set by a producer that could not read a record: `reason_code` or `reason_code;message`. The value is then the
source's bytes as they are, and the normalizer turns the record into a failure with that reason.
"""
HEADER_REPLAY_OF = "headrace-replay-of"
"""Id of the failure (`ingest_failures`) that is sent again with this record."""
HEADER_REPLAY_COUNT = "headrace-replay-count"
"""Number of this replay of the record, counted from 1 over all its failures."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Coordinates of the raw record that something came from. `timestamp` is the broker's, in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int

    @property
    def coordinates(self) -> tuple[str, int, int]:
        return self.topic, self.partition, self.offset

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts records of different keys as they arrived."""
        return self.timestamp, self.partition, self.offset

    def is_newer_than(self, other: "Origin") -> bool:
        """The order of arrival: by offset within a raw partition, by the broker's time across partitions."""
        if self.partition == other.partition:
            return self.offset > other.offset
        return self.order > other.order


DELETED = b"null"
"""The `data` of a record that has been deleted."""


class CleanRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """On `<dataset>.clean`: a normalized record. `data` holds every field of the dataset, null where absent.

    A `data` that is null itself deletes the record with that key.
    """

    key: str
    origin: Origin
    data: msgspec.Raw
    source: str | None = None
    kind: str | None = None
    run: str | None = None
    unknown: tuple[str, ...] = ()
    """Names of fields that the record had and the dataset has not."""
    reprocess: str | None = None
    """The job that had it normalized again. It may replace what its own raw record has stored: see decision 0040."""


class ChangeEvent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """On `<dataset>.changed`: a row as committed. `version` grows with every change of that key and never falls.

    The same version may come again (redelivery), always with the same content. Behind a row that the API has written
    there is no raw record, so it has no `origin`.
    """

    key: str
    op: Literal["stored", "deleted"]
    version: int
    origin: Origin | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class FailedRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """On `failures`: a rejected record, with the bytes that were rejected (base64 in JSON)."""

    dataset: str
    stage: str
    reason: str
    message: str
    origin: Origin
    failed_at: int
    """When it was first rejected, in ms since the epoch."""
    key: str | None = None
    payload: bytes | None = None
    problems: tuple[FieldProblem, ...] = ()
    source: str | None = None
    kind: str | None = None
    run: str | None = None
    held: bool = False
    """True if the record waits for somebody to release or discard it: its source is over the failure limit (0028)."""
    headers: dict[str, str] | None = None
    """Headers of a raw record that is held or has a mapping: without them nobody could read its payload again, or tell
    what of it is personal."""
