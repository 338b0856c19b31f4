"""The material of a trace: what each store said about one key, before anything is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from runtime.kafka.browse import TopicMessage
from runtime.kafka.lookup import Coordinates
from schemas.dataset import Dataset
from schemas.events import HEADER_PROBLEM, ChangeEvent, CleanRecord, FailedRecord
from schemas.masking import MASK, masked_key, masked_row, masks
from services.trace.model import SearchedTopic


@dataclass(frozen=True)
class StoredRow:
    """The row of the key. `origin` is its raw record's place and broker's time; None where the API writes the rows."""

    version: int
    created_at: datetime
    updated_at: datetime | None
    record: Mapping[str, Any]
    origin: Coordinates | None = None
    origin_ms: int = 0


@dataclass(frozen=True)
class Tombstone:
    """A delete that Postgres remembers."""

    version: int
    deleted_at: datetime
    origin: Coordinates
    origin_ms: int


@dataclass(frozen=True)
class Landed:
    """A raw record of the key that is kept untouched."""

    place: Coordinates
    table: str
    source: str | None
    run: str | None
    received_at: datetime
    is_tombstone: bool


@dataclass(frozen=True)
class DeadLetter:
    """A failure of a record of the key, as Postgres keeps it."""

    id: int
    place: Coordinates
    stage: str
    reason: str
    message: str
    state: str
    failed_at: datetime
    source: str | None
    run: str | None
    waits: bool
    """True if it waits for a unique value that another record has, whose key `blocked_by` is (None: not known)."""
    blocked_by: str | None


@dataclass
class PostgresFindings:
    """The rows that Postgres has of the key."""

    row: StoredRow | None = None
    tombstone: Tombstone | None = None
    landed: list[Landed] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    waiting_since: datetime | None = None
    """Since when a change of the row waits in the outbox; None: none does."""
    waiting_version: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class KafkaFindings:
    """The messages of the key on the topics of its dataset, and how far they were searched."""

    partition: int
    raw: dict[Coordinates, TopicMessage] = field(default_factory=dict)
    clean: list[tuple[TopicMessage, CleanRecord]] = field(default_factory=list)
    failed: list[tuple[TopicMessage, FailedRecord]] = field(default_factory=list)
    changes: list[tuple[TopicMessage, ChangeEvent]] = field(default_factory=list)
    searched: list[SearchedTopic] = field(default_factory=list)


@dataclass(frozen=True)
class DocumentFinding:
    """The version of the key's document in Elasticsearch; None where there is none."""

    version: int | None


@dataclass(frozen=True)
class CacheFinding:
    """The entry of the cache. `floor`: a fill below it is refused."""

    version: int | None
    floor: int | None
    holds_record: bool
    seconds_left: float | None


@dataclass(frozen=True)
class ApiFinding:
    """The API's answer to a reader of the key."""

    status: int
    cache: str | None
    etag: str | None
    record: Any


@dataclass(frozen=True)
class Away:
    """A store that does not answer, with its words; or that this pipeline does without (`reason` is empty)."""

    reason: str


@dataclass
class Findings:
    """All of it. What is None was not asked."""

    dataset: Dataset
    key: str
    asked: str
    postgres: PostgresFindings | Away
    kafka: KafkaFindings | Away
    elasticsearch: DocumentFinding | Away
    redis: CacheFinding | Away
    api: ApiFinding | Away
    covered: Mapping[Coordinates, bool] = field(default_factory=dict)
    """Of raw records, whether Postgres has dealt with them; empty if it could not be asked."""


def without_personal_data(found: Findings) -> Findings:
    """The same, as it is shown to those who may not see personal data. What is masked is in rows and in messages."""
    dataset = found.dataset
    if not masks(dataset):
        return found
    postgres, kafka, api = found.postgres, found.kafka, found.api
    if isinstance(postgres, PostgresFindings):
        row = postgres.row and replace(postgres.row, record=masked_row(dataset, postgres.row.record))
        letters = [
            replace(one, message=MASK, blocked_by=masked_key(dataset, one.blocked_by)) for one in postgres.dead_letters
        ]
        postgres = replace(postgres, row=row, dead_letters=letters)
    if isinstance(kafka, KafkaFindings):
        kafka = replace(
            kafka,
            raw={place: _masked_problem(message) for place, message in kafka.raw.items()},
            failed=[(message, msgspec.structs.replace(failed, message=MASK)) for message, failed in kafka.failed],
        )
    if isinstance(api, ApiFinding) and isinstance(api.record, Mapping):
        api = replace(api, record=masked_row(dataset, api.record))
    return replace(found, postgres=postgres, kafka=kafka, api=api)


def _masked_problem(message: TopicMessage) -> TopicMessage:
    headers = tuple((name, MASK.encode() if name == HEADER_PROBLEM else value) for name, value in message.headers)
    return replace(message, headers=headers)
