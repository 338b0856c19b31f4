"""A trace: what became of each record of one key, stage by stage, and how each store has the key now."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Stage = Literal["raw", "landing", "normalizer", "postgres", "failure", "changed"]
"""A stage that an event is about: the raw topic, raw_api_data or raw_csv_data, the agent, the Postgres sink, a dead
letter, the topic of changes."""

Outcome = Literal[
    "published", "tombstone", "unreadable", "landed",
    "clean", "failed", "held", "on its way",
    "stored", "changed", "no change", "superseded", "deleted", "pending",
]  # fmt: skip
"""published, tombstone, unreadable: as the producer sent it. landed: kept untouched. clean: it has a normal form.
failed, held: a dead letter. on its way: nobody has dealt with it yet. stored: the row has the
version that it made. changed: it made an earlier version. no change: it said what the row said already.
superseded: a newer record was there before it. deleted: it removed the row. pending: it waits for a unique value."""


@dataclass(frozen=True)
class TraceEvent:
    """One thing that happened to one raw record of the key, which `partition` and `offset` name."""

    at: datetime | None
    """None where no store knows the time."""
    stage: Stage
    outcome: Outcome
    topic: str | None
    """Where the event itself lies, if it lies in a topic: with its own partition and offset."""
    partition: int | None
    offset: int | None
    raw_topic: str | None
    """The coordinates of the raw record that it is about; None for what the API has written."""
    raw_partition: int | None
    raw_offset: int | None
    version: int | None = None
    """Of the row, where the event gave it one."""
    source: str | None = None
    run: str | None = None
    failure: int | None = None
    """Id of the dead letter: `headrace failures show ID`."""
    detail: str | None = None
    """Reasons and remarks, for people."""


StoreState = Literal["has it", "has not", "older", "newer", "away", "none", "deleted"]


@dataclass(frozen=True)
class StoreAnswer:
    """A store's word on the key now. `older` and `newer` compare its version with that of Postgres."""

    store: Literal["postgres", "elasticsearch", "redis", "api"]
    state: StoreState
    """away: it does not answer, and `detail` says why. none: this pipeline does without it."""
    version: int | None = None
    detail: str | None = None
    record: Any = None
    """The record as Postgres, or the API, has it."""


@dataclass(frozen=True)
class SearchedTopic:
    """The part of a topic that was searched for the key: offsets from `first` up to `end`, which is not among them."""

    topic: str
    partition: int
    first: int
    end: int
    kept_from: int
    """The first offset that the partition still has: retention has taken those before it."""
    stopped: str | None
    """Why it was not searched any further back; None if it was searched through."""


@dataclass(frozen=True)
class Trace:
    """Everything that is known of a key. `events` are in order of time."""

    dataset: str
    key: str
    """In normal form."""
    asked: str
    known: bool
    """False if nobody knows anything of the key, as far as it could be asked."""
    summary: str
    """One sentence: how the key stands."""
    partition: int | None
    """The partition in which its records lie; None where there is no raw topic, or Kafka does not answer."""
    events: list[TraceEvent] = field(default_factory=list)
    stores: list[StoreAnswer] = field(default_factory=list)
    searched: list[SearchedTopic] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Lines on what could not be seen, and why: a store that is away, records that retention has taken."""
