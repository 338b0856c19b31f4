"""Which records are reprocessed, how their sources are read now, and how far that is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from schemas.dataset import Dataset

EXAMPLES = 5
"""Of invalid records that are told one by one."""


@dataclass(frozen=True)
class Reading:
    """How the records of a declared source are read now."""

    kind: str
    mapping: bytes | None


@dataclass(frozen=True)
class Choice:
    """Which records: of `source`, by default of all, and only those that came `since` then. Deletes: of all sources."""

    dataset: Dataset
    source: str | None = None
    since: datetime | None = None


class Counts(msgspec.Struct):
    """How far a reprocessing is. Numbers count records, but `offsets`, which counts those that were looked at."""

    offsets: int = 0
    topic: int = 0
    """Selected records that the raw topic still had."""
    landing: int = 0
    """Those that only the landing tables had."""
    sent: int = 0
    deletes: int = 0
    """How many of the sent ones are deletes."""
    acted_on: int = 0
    """Failures and held records that `headrace failures` deals with."""
    no_mapping: int = 0
    """Landed records with columns that nobody says how to read: their source is not in sources.toml."""
    nowhere: int = 0
    """Booked offsets without a record in topic or landing tables; markers of transactions are among them."""
    still_failed: int = 0
    """Failures that would fail again: they are not sent."""
    invalid: dict[str, int] = {}
    """Others that are invalid now, by reason: they are not sent, and what is stored of them stays."""
    examples: list[dict[str, Any]] = []
    forecast: dict[str, int] = {}
    """Of a dry run: what would become of the sent ones: changed, unchanged or superseded."""


class State(msgspec.Struct):
    """What a job keeps, so that the next start goes on."""

    job: str
    until: dict[str, int]
    """The end of each partition's books when the job began: what came later was read by what runs since."""
    done: dict[str, int] = {}
    """The last window of each partition that was sent and confirmed."""
    counts: Counts = msgspec.field(default_factory=Counts)
    since_ms: int = 0
