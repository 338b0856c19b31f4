"""Every Postgres table, for migrations, the sinks and the API. Dataset tables are derived from their declarations."""

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, INT8MULTIRANGE, JSONB
from sqlalchemy.exc import CompileError
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import NullType, TypeEngine

from schemas.dataset import Dataset
from schemas.errors import BrokenDataset
from schemas.registry import all_datasets

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

row_version = Sequence("row_version", metadata=metadata)
"""Gives every change of a row its version. Taken under the row's lock, so per key it only grows: see decision 0003."""

OUTCOMES = ("inserted", "updated", "unchanged", "superseded", "deleted", "failed", "held")
"""Outcomes of a raw record. Exactly one of them counts it. What is held waits for somebody: see decision 0028."""


def _timestamp(name: str, *, default: bool = False, nullable: bool = False) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=func.now() if default else None)


def _columns(kind: type[TypeEngine[Any]], *names: str, nullable: bool = False) -> list[Column[Any]]:
    return [Column(name, kind, nullable=nullable) for name in names]


def _outcome_counts() -> list[Column[Any]]:
    return [Column(outcome, BigInteger, nullable=False, server_default="0") for outcome in OUTCOMES]


def _raw_table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("topic", Text, nullable=False),
        Column("partition", Integer, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("key", Text),
        Column("source_name", Text),
        Column("run_id", Text),
        Column("payload", LargeBinary),
        _timestamp("received_at"),
        PrimaryKeyConstraint("topic", "partition", "offset"),
    )


raw_api_data = _raw_table("raw_api_data")
raw_csv_data = _raw_table("raw_csv_data")

ingest_failures = Table(
    "ingest_failures",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("dataset", Text, nullable=False),
    *_columns(Text, "source_name", "run_id", "key", nullable=True),
    *_columns(Text, "stage", "reason", "message"),
    Column("problems", JSONB, nullable=False),
    Column("payload", LargeBinary),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    _timestamp("failed_at"),
    Column("state", Text, nullable=False, server_default="open"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    *_columns(BigInteger, "replay_of", "failed_again_as", nullable=True),
    Column("replay_job", Integer),
    Column("edited_payload", LargeBinary),
    Column("raw_headers", JSONB),
    *_columns(Text, "replayed_key", "replayed_topic", nullable=True),
    Column("replayed_partition", Integer),
    Column("replayed_offset", BigInteger),
    _timestamp("updated_at", nullable=True),
    Column("raw_timestamp", BigInteger),
    Column("claim", LargeBinary),
    Column("blocked_by", Text),
    UniqueConstraint("topic", "partition", "offset"),
    Index(None, "dataset", "reason"),
    Index("ix_ingest_failures_claims", "dataset", "key", postgresql_where=text("claim IS NOT NULL")),
    Index("ix_ingest_failures_blocked_by", "dataset", "blocked_by", postgresql_where=text("claim IS NOT NULL")),
    Index(None, "state", "id"),
    Index("ix_ingest_failures_replayed", "replayed_topic", "replayed_partition", "replayed_offset"),
)
"""Rejected records. The sink writes them; from `state` on, columns tell what people did about them: see
`services/failures/`. `attempts` counts the replays of the record, over all its failures (`replay_of` chains them).
`raw_timestamp` is the broker's, in ms since the epoch. `claim` is the record in normal form while it waits for a unique
value of the key `blocked_by` (null: unknown), and until the row that it became has been announced: see
sinks/postgres/pending.
"""

failure_replays = Table(
    "failure_replays",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("state", Text, nullable=False),
    Column("selection", JSONB, nullable=False),
    Column("rate", Double),
    Column("forced", Boolean, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("sent", BigInteger, nullable=False, server_default="0"),
    Column("skipped", BigInteger, nullable=False, server_default="0"),
    Column("who", Text, nullable=False),
    _timestamp("started_at"),
    _timestamp("ended_at", nullable=True),
    Column("attended_by", Text),
    _timestamp("attended_until", nullable=True),
)
"""Replay jobs. Who runs one renews a lease on it (services/failures/replay_jobs.py). `rate` in records/s. The failures
of a job are those `queued` with its id in `replay_job`.
"""

failure_actions = Table(
    "failure_actions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("failure_id", BigInteger),
    Column("job_id", Integer),
    *_columns(Text, "action", "who"),
    _timestamp("at", default=True),
    Column("note", Text),
    Column("before", LargeBinary),
    Column("after", LargeBinary),
    Index(None, "failure_id"),
)
"""Actions on a failure or on a whole job: what was done, by whom, when. `before` and `after` are an edit's payloads."""

coverage = Table(
    "coverage",
    metadata,
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("ranges", INT8MULTIRANGE, nullable=False),
    *_outcome_counts(),
    Column("void", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("topic", "partition"),
)
"""Coverage of each raw partition. `ranges`: the offsets that are accounted for, by the outcome of their record or, so
many as `void` counts, by the broker's evidence that they carry none (decision 0027). Both in one set, so that it stays
one range however many transactions there are.
"""


run_outcomes = Table(
    "run_outcomes",
    metadata,
    *_columns(Text, "run_id", "topic"),
    Column("partition", Integer, nullable=False),
    *_outcome_counts(),
    _timestamp("updated_at"),
    PrimaryKeyConstraint("run_id", "topic", "partition"),
)
"""Outcomes of the records of each run, by raw partition; see sinks/postgres/coverage.py."""


row_counts = Table(
    "row_counts",
    metadata,
    Column("table_name", Text, nullable=False),
    Column("bucket", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    PrimaryKeyConstraint("table_name", "bucket"),
)
"""Rows in each dataset's table: the sum over its buckets, of which one may be negative. See stores/row_counts."""


topic_epochs = Table(
    "topic_epochs",
    metadata,
    Column("topic", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("began_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("topic", "epoch"),
)
"""The incarnations of each raw topic, by the broker's id; `began_at`: its earliest record, ms. See stores/epochs."""


etl_runs = Table(
    "etl_runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    *_columns(Text, "source", "dataset", "trigger", "status"),
    _timestamp("started_at"),
    _timestamp("finished_at", nullable=True),
    *_columns(BigInteger, "published", "stored", "failed", nullable=True),
    Column("outcomes", JSONB(none_as_null=True)),
    Column("failure_reason", Text),
    Column("anomalies", JSONB),
    Column("encoding", Text),
    _timestamp("created_at", default=True),
    Index(None, "source", "started_at"),
    Index("ix_etl_runs_running", "source", postgresql_where=text("status = 'running'")),
)
"""Runs of sources; `status` is running, success or failed. Counts are null until they are known: `published` while the
broker has not confirmed all, `stored` and `failed` while Postgres has not taken all. `outcomes` is {outcome: records};
of a run that failed, what had become of its records by then. See services/runs."""


tombstones = Table(
    "tombstones",
    metadata,
    *_columns(Text, "dataset", "key"),
    Column("version", BigInteger, nullable=False),
    Column("raw_partition", Integer, nullable=False),
    *_columns(BigInteger, "raw_offset", "raw_timestamp"),
    _timestamp("deleted_at"),
    PrimaryKeyConstraint("dataset", "key"),
    Index(None, "deleted_at"),
)
"""Deleted records, remembered for a while: an older record that comes late must not bring one back."""

forgotten = Table(
    "forgotten",
    metadata,
    Column("hash", Text, primary_key=True),
    *_columns(Text, "dataset", "secret"),
    _timestamp("forgotten_at", default=True),
    _timestamp("erased_at", nullable=True),
    _timestamp("undone_at", nullable=True),
    Column("erased", JSONB, nullable=False, server_default="{}"),
)
"""Keys that somebody had forgotten, as keyed hashes: see stores/forgotten. `secret` tells which secret made the hash.
`erased` is {table: rows}, over all times that it was asked for; without `erased_at` that has not come to its end.
"""

forgotten_addresses = Table(
    "forgotten_addresses",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("forgotten", Text, primary_key=True),
)
"""E-mail addresses and telephone numbers of those whose key has the hash `forgotten`, as hashes by the same secret."""

etl_checkpoint = Table(
    "etl_checkpoint",
    metadata,
    Column("source", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("position", JSONB, nullable=False),
    Column("run_id", Text, nullable=False),
    _timestamp("updated_at"),
)
"""Position from which reading a source goes on, and what it depends on (`scope`); see `stores/checkpoints.py`."""

etl_checkpoint_pages = Table(
    "etl_checkpoint_pages",
    metadata,
    Column("source", Text, nullable=False),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("page", Integer),
    *_columns(Text, "etag", "last_modified", nullable=True),
    Column("records", LargeBinary, nullable=False),
    PrimaryKeyConstraint("source", "seq"),
    ForeignKeyConstraint(
        ["source"], [etl_checkpoint.c.source], ondelete="CASCADE", name="fk_etl_checkpoint_pages_source"
    ),
    Index(None, "source", "page"),
)
"""Digests of the records on an API's pages when they were sent, 16 bytes each; without a page number: outdated."""


outbox = Table(
    "outbox",
    metadata,
    *_columns(Text, "dataset", "key"),
    Column("version", BigInteger, nullable=False, unique=True),
    Column("event", LargeBinary, nullable=False),
    _timestamp("written_at", default=True),
    Column("trace", Text),
    PrimaryKeyConstraint("dataset", "key"),
)
"""Change events that are still to be published, of rows that the API writes, each in its row's transaction.

The relay takes one out once the broker has confirmed it. A follower needs the last state of a key only, so there is one
at most per key, the newest, however long Kafka is away. `trace` is the `traceparent` of the request that wrote the row.
"""

OUTBOX_CHANNEL = "headrace_outbox"
"""The NOTIFY channel on which a commit wakes the relay."""

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    *_columns(Text, "source", "key"),
    Column("digest", LargeBinary, nullable=False),
    Column("claim", Text, nullable=False),
    Column("accepted", Integer),
    _timestamp("forget_at"),
    PrimaryKeyConstraint("source", "key"),
    Index(None, "forget_at"),
)
"""Idempotency keys of webhooks: see producers/webhook/deliveries. Without `accepted` it is being published."""


source_schemas = Table(
    "source_schemas",
    metadata,
    *_columns(Text, "source_name", "dataset"),
    Column("state", JSONB, nullable=False),
    _timestamp("updated_at"),
    PrimaryKeyConstraint("source_name", "dataset"),
)
"""Fields of each source's records as they are known: see `sinks/drift/rules.py`."""

schema_drift = Table(
    "schema_drift",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    *_columns(Text, "source_name", "dataset", "field", "what"),
    *_columns(Text, "from_type", "to_type", "reason", nullable=True),
    _timestamp("since"),
    _timestamp("last_seen"),
    Column("records", BigInteger, nullable=False),
    *_columns(Text, "run_id", "topic", nullable=True),
    Column("partition", Integer),
    Column("offset", BigInteger),
    Column("example", Text),
    _timestamp("detected_at", default=True),
    _timestamp("ended_at", nullable=True),
    Index(None, "source_name", "dataset", "field"),
)
"""Fields that a source has gained, lost or retyped. `reason`: the code with which such records fail, null: they do not.
`records` have shown it so far, until `ended_at`. The coordinates are the example's."""

alarms = Table(
    "alarms",
    metadata,
    Column("id", Text, primary_key=True),
    *_columns(Text, "rule", "subject"),
    _timestamp("opened_at"),
    _timestamp("closed_at", nullable=True),
    Column("body", JSONB, nullable=False),
    Index("ix_alarms_open", "rule", "subject", postgresql_where=text("closed_at IS NULL")),
    Index(None, "closed_at"),
)
"""Alarms that have opened; `body` is `monitoring.alarms.Alarm` as it stands. Written by the role `monitor`."""

run_profiles = Table(
    "run_profiles",
    metadata,
    Column("run_id", Text, primary_key=True),
    *_columns(Text, "source", "dataset"),
    _timestamp("profiled_at", default=True),
    Column("features", JSONB, nullable=False),
    *_columns(Integer, "sampled", "compared_with"),
    Index(None, "source", "profiled_at"),
)
"""The profile of each successful run, {feature: number}, from so many sampled records: `services/runs/anomalies.py`.

It was compared with so many earlier runs of its source; what was unusual is in `etl_runs.anomalies`.
"""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    _timestamp("created_at", default=True),
    _timestamp("expires_at", nullable=True),
    _timestamp("revoked_at", nullable=True),
    _timestamp("last_used_at", nullable=True),
    Index(None, "name"),
)
"""Keys of the API: see stores/api_keys. `id` is the public part of a key, `digest` the SHA-256 of all of it."""

lag_samples = Table(
    "lag_samples",
    metadata,
    Column("at", Double, primary_key=True, autoincrement=False),
    Column("sample", LargeBinary, nullable=False),
)
"""The latest samples of all consumer groups, compressed; `at` in seconds since the epoch. See monitoring/samples."""

lag_minutes = Table(
    "lag_minutes", metadata, _timestamp("at"), Column("groups", JSONB, nullable=False), PrimaryKeyConstraint("at")
)
"""Lag, age, rates and verdict of each group's topics, a row per minute. See monitoring/history."""


@cache
def dataset_table(dataset: Dataset) -> Table:
    """The table of a dataset: its fields, when they were stored, and the raw record they came from, if there is one.

    Raises BrokenDataset for one whose name another table of ours has.
    """
    if dataset.table in metadata.tables:
        raise BrokenDataset(f"dataset {dataset.name!r}: the table {dataset.table} is another one of ours; rename it")
    identity = [Column("id", BigInteger, Identity(), primary_key=True)] if dataset.serial_id else []
    key = UniqueConstraint(*dataset.key) if dataset.serial_id else PrimaryKeyConstraint(*dataset.key)
    return Table(
        dataset.table,
        metadata,
        *identity,
        *(Column(field.name, field.type.sql_type(), nullable=not field.required) for field in dataset.fields),
        _timestamp("created_at", default=True),
        _timestamp("updated_at", nullable=True),
        Column("search_text", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        *(_raw_record(dataset) if dataset.written_by == "pipeline" else ()),
        key,
        *(_unique(dataset, name) for name in dataset.unique),
        *(Index(None, name) for name in dataset.indexed),
    )


def _unique(dataset: Dataset, name: str) -> UniqueConstraint:
    # The sink swaps values within a statement. The API inserts with ON CONFLICT, which does not wait for its end.
    swaps = dataset.written_by == "pipeline"
    return UniqueConstraint(name, deferrable=swaps or None, initially="IMMEDIATE" if swaps else None)


def _raw_record(dataset: Dataset) -> list[SchemaItem]:
    return [
        Column("raw_partition", Integer, nullable=False),
        Column("raw_offset", BigInteger, nullable=False),
        Column("raw_timestamp", BigInteger, nullable=False),
        # How often the row was replaced by a record of another raw partition: see decision 0013.
        Column("raw_moves", Integer, nullable=False, server_default="0"),
        Index(f"ix_{dataset.table}_raw_moves", "raw_moves", postgresql_where=text("raw_moves > 0")),
    ]


def all_tables() -> MetaData:
    """The metadata with every dataset's table in it."""
    for dataset in all_datasets():
        dataset_table(dataset)
    return metadata


def sql_name(kind: TypeEngine[Any]) -> str:
    """A type as Postgres writes it, without a collation: `VARCHAR(50)`. Pure."""
    if isinstance(kind, NullType):
        return "a type of its own"  # of an extension, or somebody's
    try:
        return kind.compile(dialect=DIALECT).partition(" COLLATE")[0]
    except CompileError:
        return repr(kind)


def same_key(dataset: Dataset, other: str) -> str:
    """SQL that finds rows `t` by the columns of `other`, which hold the parts of keys. Pure."""
    # Without a cast to the column's type: VARCHAR(20) would cut a longer key, and so find another one's row.
    return " AND ".join(f't."{name}" = {other}."{name}"' for name in dataset.key)
