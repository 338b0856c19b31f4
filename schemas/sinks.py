"""The registry of sinks. The command line, the roles of the stacks, topics, groups, rehearsals and audits follow it."""

import pkgutil
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["raw", "clean", "changed", "failures"]
"""Kind of a topic. Each dataset has one of each kind, except for `failures`, which all share."""


@dataclass(frozen=True)
class DeclaredSink:
    """A consumer that brings topics into a store. Its code is loaded where it is used: clients take long to load."""

    name: str
    """NAME in `headrace sink NAME`; also the label of its metrics and the stage of its failures."""
    does: str
    """The help of its command."""
    reads: tuple[Kind, ...]
    code: str
    """MODULE:CLASS of its sinks.sink.Sink, made of the settings."""
    refusing: str | None = None
    """MODULE:CLASS of its rehearsed form, made of the settings and the watch, which refuses what a rehearsal strikes.
    For sinks that send to `failures` what their store refuses."""
    patience_ms: int = 0
    """For so long it waits for more, however slowly records come, where nobody waits for what it writes: small batches
    take processor and disk from the sinks that somebody waits for."""
    needs: str | None = None
    """The optional server that it writes to."""
    without: str = ""
    """Message where the pipeline does without that server."""
    versions: str | None = None
    """MODULE:CLASS of its sinks.sink.HeldVersions, if `headrace audit --deep` can compare what it wrote."""

    @property
    def group(self) -> str:
        """Logical consumer group, and the role of its processes."""
        return f"sink-{self.name}"

    @property
    def follows_postgres(self) -> bool:
        """Its records are stored in Postgres already, and come without the name of their source."""
        return "changed" in self.reads


def load(code: str) -> Any:
    """The object that MODULE:NAME names."""
    return pkgutil.resolve_name(code)


POSTGRES = DeclaredSink(
    "postgres",
    "Merge clean records and failures into Postgres, and publish what changed.",
    reads=("clean", "failures"),
    code="sinks.postgres.sink:PostgresSink",
    refusing="rehearsals.postgres:RehearsedPostgresSink",
)

SINKS = [
    POSTGRES,
    DeclaredSink(
        "landing",
        "Keep every raw record, untouched, in raw_api_data and raw_csv_data.",
        reads=("raw",),
        code="sinks.landing:LandingSink",
        patience_ms=200,
    ),
    DeclaredSink(
        "elasticsearch",
        "Follow the changes of Postgres in the search indices.",
        reads=("changed",),
        code="sinks.elasticsearch:ElasticsearchSink",
        refusing="rehearsals.elasticsearch:RehearsedElasticsearchSink",
        patience_ms=300,  # a document is found a second later, once the index is refreshed
        needs="elasticsearch",
        without="there is nothing to index into, and search answers from Postgres",
        versions="sinks.elasticsearch:Documents",
    ),
    DeclaredSink(
        "redis",
        "Invalidate cached records as they change.",
        reads=("changed",),
        code="sinks.redis_invalidation:RedisInvalidationSink",
        needs="redis",
        without="there is no cache to keep fresh, and reads come from Postgres",
        versions="sinks.redis_invalidation:CacheEntries",
    ),
]


def sink_named(name: str) -> DeclaredSink:
    """Raises KeyError for a name that no sink has."""
    return {sink.name: sink for sink in SINKS}[name]


def groups_reading(kind: Kind) -> tuple[str, ...]:
    """The consumer groups of the sinks that read topics of this kind."""
    return tuple(sink.group for sink in SINKS if kind in sink.reads)
