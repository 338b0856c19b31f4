"""The overview: one sentence, the flow as nodes and edges, and what waits for people."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

State = Literal["ok", "warn", "bad", "unknown", "none"]
"""none: this pipeline does without it."""

NodeKind = Literal["source", "topic", "agent", "sink", "relay", "store"]


@dataclass(frozen=True)
class FlowNode:
    """A source, a topic, a consumer group of ours, or a store."""

    id: str
    """`topic:customers.raw`: its kind and its name."""
    kind: NodeKind
    name: str
    state: State
    detail: str | None = None
    """Why it is not well, or how its last run ended."""
    rate: float | None = None
    """Of a topic: offsets written a second. Of a group: offsets committed a second. None: not known."""
    waiting: int | None = None
    """Records that wait for a group, over all its topics."""
    dataset: str | None = None


@dataclass(frozen=True)
class FlowEdge:
    """A way from one node to another. Lag is known of edges from a topic to a group."""

    source: str
    target: str
    state: State
    rate: float | None = None
    """Offsets a second: written on edges to a topic, committed on edges from one."""
    waiting: int | None = None
    exact: bool | None = None
    """False: markers of transactions may be among what waits."""
    seconds: float | None = None
    """Age of the oldest record that waits; 0 without any."""
    drain_seconds: float | None = None
    """Time until nothing waits at these rates."""
    verdict: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class OpenLetters:
    """Dead letters that nobody has settled, and records that are held."""

    open: int
    held: int
    oldest: datetime | None
    by_reason: list["LettersOfReason"] = field(default_factory=list)
    """The most frequent ones."""


@dataclass(frozen=True)
class LettersOfReason:
    """Open dead letters of one dataset with one reason."""

    dataset: str
    reason: str
    count: int


@dataclass(frozen=True)
class Latency:
    """Seconds from a record's arrival in its raw topic, by the broker's clock, to its row in Postgres.

    Of the newest stored rows that the topics of changes tell of, repeats and unchanged records left out. None: there
    were none.
    """

    median: float | None
    slowest: float | None
    """Of those records."""
    records: int
    newest_at: datetime | None
    """When the newest of them was stored."""


AuditVerdict = Literal["complete", "in flight", "gaps", "unknown"]


@dataclass(frozen=True)
class AuditSketch:
    """Coverage against the ends of the raw topics. `headrace audit` proves; this only compares numbers.

    gaps: between covered offsets there are some that are not; a few seconds of it are usual while several members work.
    """

    verdict: AuditVerdict
    covered: int
    in_flight: int
    gaps: int
    detail: str


@dataclass(frozen=True)
class Overview:
    """All of it at one moment."""

    at: datetime
    state: State
    diagnosis: str
    """One sentence."""
    troubles: list[str]
    """Sentences on what is not well, worst first; the diagnosis is the first of them."""
    nodes: list[FlowNode]
    edges: list[FlowEdge]
    dead_letters: OpenLetters | None
    """None: Postgres does not answer."""
    latency: Latency | None
    audit: AuditSketch
    window_seconds: float | None
    """Seconds for which the lag has been observed: rates and verdicts are as good as that is long."""
    monitored: bool
