"""Keeps the fields of sources, and their drifts, in the transaction in which the raw records land.

So each record counts once, however often it is delivered: a batch that is rolled back leaves nothing behind, and
one that comes again lands nothing new.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import structlog

from runtime.instruments import from_zero
from runtime.metrics import SCHEMA_DRIFT
from schemas.dataset import Dataset
from schemas.errors import HOSTILE
from schemas.reading_plan import read_fields, reading_plan
from schemas.registry import dataset_named
from schemas.source_headers import BadMapping, SourceHeaders
from sinks.drift.fields import Group, Observation
from sinks.drift.rules import Change, SourceState, What, observe
from stores.postgres_connection import Connection

_CREATE = """
    INSERT INTO source_schemas (source_name, dataset, state, updated_at)
    SELECT source_name, dataset, '{}'::jsonb, now() FROM unnest($1::text[], $2::text[]) AS w (source_name, dataset)
    ORDER BY source_name, dataset ON CONFLICT DO NOTHING"""

_LOCK = """
    SELECT s.source_name, s.dataset, s.state
    FROM source_schemas s JOIN unnest($1::text[], $2::text[]) AS w (source_name, dataset) USING (source_name, dataset)
    ORDER BY s.source_name, s.dataset FOR UPDATE OF s"""

_SAVE = """
    UPDATE source_schemas s SET state = w.state::jsonb, updated_at = now()
    FROM unnest($1::text[], $2::text[], $3::text[]) AS w (source_name, dataset, state)
    WHERE s.source_name = w.source_name AND s.dataset = w.dataset"""

_BEGIN = """
    INSERT INTO schema_drift (source_name, dataset, field, what, from_type, to_type, reason, since, last_seen, records,
        run_id, topic, "partition", "offset", example)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"""

_GO_ON = """
    UPDATE schema_drift SET records = records + $6, last_seen = greatest(last_seen, $7)
    WHERE source_name = $1 AND dataset = $2 AND field = $3 AND what = $4 AND (what <> 'retyped' OR to_type = $5)
        AND ended_at IS NULL"""

_END = """
    UPDATE schema_drift SET ended_at = $6
    WHERE source_name = $1 AND dataset = $2 AND field = $3 AND what = $4 AND (what <> 'retyped' OR to_type = $5)
        AND ended_at IS NULL"""

log = structlog.get_logger()

MAX_EXAMPLE = 500
"""Characters of an example that are kept."""

_decode = msgspec.json.Decoder(float_hook=str).decode
_decode_state = msgspec.json.Decoder(SourceState).decode
_encode = msgspec.json.Encoder().encode


class Begun(msgspec.Struct, frozen=True):
    """A drift that has begun. `reason` is the code with which its records fail, None where they go through."""

    group: Group
    change: Change
    reason: str | None

    def announce(self) -> None:
        """Log and count it, with a warning where records fail because of it. To be called once it is committed."""
        group, change = self.group, self.change
        breaking = self.reason is not None
        SCHEMA_DRIFT.labels(group.dataset, change.what, "yes" if breaking else "no").inc()
        (log.warning if breaking else log.info)(
            "schema_drift",
            source=group.source,
            dataset=group.dataset,
            what=change.what,
            field=change.field,
            from_type=change.from_type,
            to_type=change.to_type,
            failing_with=self.reason,
            run=group.run,
        )


def count_from_zero(datasets: Iterable[str]) -> None:
    """Show that no source of these datasets has drifted yet. To be called when the process starts."""
    from_zero(SCHEMA_DRIFT, datasets, get_args(What), ("yes", "no"))


async def record(connection: Connection, seen: Sequence[Observation]) -> list[Begun]:
    """Take a batch into the memory of its sources; returns the drifts that begin with it.

    To be called last in the transaction: it locks the sources' rows, in one order, until the commit.
    """
    places = sorted({(one.group.source, one.group.dataset) for one in seen})
    if not places:
        return []
    names = [source for source, _ in places], [dataset for _, dataset in places]
    rows = await connection.fetch(_LOCK, *names)
    if len(rows) < len(places):
        await connection.execute(_CREATE, *names)
        rows = await connection.fetch(_LOCK, *names)
    states = {(source, dataset): _decode_state(state) for source, dataset, state in rows}
    begun: list[Begun] = []
    going_on: list[tuple[Any, ...]] = []
    for one in seen:
        for change in observe(states[one.group.source, one.group.dataset], one):
            drift = (one.group.source, one.group.dataset, change.field, change.what, change.to_type)
            if change.phase == "goes_on":
                going_on.append((*drift, change.records, one.last_at))
                continue
            # What has been counted so far belongs to the drift that ends here, or came before the one that begins.
            await _count(connection, going_on)
            if change.phase == "ends":
                await connection.execute(_END, *drift, one.last_at)
            else:
                begun.append(await _begin(connection, one, change))
    await _count(connection, going_on)
    await connection.execute(_SAVE, *names, [_encode(states[place]).decode() for place in places])
    return begun


async def _count(connection: Connection, going_on: list[tuple[Any, ...]]) -> None:
    """Add to the drifts that go on, in one round trip; empties the list."""
    if going_on:
        await connection.executemany(_GO_ON, going_on)
        going_on.clear()


async def _begin(connection: Connection, seen: Observation, change: Change) -> Begun:
    group, example = seen.group, change.example
    reason = failure_reason(dataset_named(group.dataset), group.mapping, change)
    since = seen.last_at if change.since_ms is None else datetime.fromtimestamp(change.since_ms / 1000, UTC)
    place = (example.topic, example.partition, example.offset) if example else (None, None, None)
    await connection.execute(
        _BEGIN,
        group.source,
        group.dataset,
        change.field,
        change.what,
        change.from_type,
        change.to_type,
        reason,
        since,
        seen.last_at,
        change.records,
        group.run,
        *place,
        example_text(change),
    )
    return Begun(group, change, reason)


def failure_reason(dataset: Dataset, mapping: bytes | None, change: Change) -> str | None:
    """The reason code of the failures that the drift causes, None where records go through.

    A gained field is never in the way. A lost or retyped one is, where the normalizer rejects a field that it reads
    from it: so the example is read as the normalizer reads it.
    """
    if change.what == "gained":
        return None
    try:
        plan = reading_plan(dataset, SourceHeaders(None, None, None, mapping))
    except BadMapping:
        return None  # All records of the source fail, and the drift has no part in it.
    paths = dict(plan.members)
    steps = tuple(step for step in plan.steps if paths.get(step[1], (step[1],))[0] == change.field)
    record = _example_record(change)
    if change.what == "lost":
        record.pop(change.field, None)
    members = tuple((column, path) for column, path in plan.members if any(step[1] == column for step in steps))
    _, problems = read_fields(plan._replace(steps=steps, members=members), record)
    return problems[0].code if problems else None


def example_text(change: Change) -> str | None:
    """The field's value as JSON, or the record without it where it is lost. Cut, and without NUL."""
    if change.example is None:
        return None
    shown = change.example.payload
    if change.what != "lost":
        try:
            shown = msgspec.json.encode(_example_record(change).get(change.field))
        except HOSTILE:
            return None
    return shown[: 4 * MAX_EXAMPLE].decode("utf-8", "replace")[:MAX_EXAMPLE].replace("\x00", "\ufffd")


def _example_record(change: Change) -> dict[str, Any]:
    try:
        return dict(_decode(change.example.payload)) if change.example else {}
    except HOSTILE:
        return {}
