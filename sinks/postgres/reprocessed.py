"""Merges records that were normalized again: each may replace what its own raw record has stored, and nothing newer.

Their outcomes are counted under a name of their job's own (`stores/coverage.py`): in the coverage of its partition a
raw record counts once. What had failed, or was held, has its outcome now. See decision 0040.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs

from schemas.events import ChangeEvent, Origin
from sinks.postgres import statements as sql
from sinks.postgres.arrivals import Arrival
from sinks.postgres.change_events import put_into_outbox
from sinks.postgres.connection import savepoint
from sinks.postgres.coverage import CoverageUpdate
from sinks.postgres.merge import DatasetMerge, Merged, Refused
from stores.coverage import reprocessing_topic


class Reprocessed(NamedTuple):
    """The outcome of records that were normalized again; `repeats` had theirs in their job already."""

    merged: Merged
    repeats: list[Arrival]
    withdrawn: set[str]
    """Keys whose rows are gone, since these records have others now."""


class _Lost(Exception):
    """Records whose rows were withdrawn are refused."""

    def __init__(self, refused: list[Refused]) -> None:
        super().__init__()
        self.refused = refused


async def merge_reprocessed(coverage: CoverageUpdate, merge: DatasetMerge, arrivals: Sequence[Arrival]) -> Reprocessed:
    """Merge, and count each record once per job. In the caller's transaction; idempotent."""
    of_job = CoverageUpdate(merge.connection)
    places = {id(arrival): _apart(arrival) for arrival in arrivals}
    await of_job.open(list(places.values()))
    seen: set[Origin] = set()
    fresh: list[Arrival] = []
    repeats: list[Arrival] = []
    for arrival in arrivals:
        place = places[id(arrival)]
        (repeats if place in seen or of_job.is_covered(place) else fresh).append(arrival)
        seen.add(place)
    await coverage.reopen([arrival.origin for arrival in fresh])
    merged, withdrawn = await _merge(merge, fresh)
    ended = {
        **{id(stored.arrival): stored.outcome for stored in merged.stored},
        # A delete that is known already is no record that came too late.
        **{id(late): "unchanged" if late.deletes else "superseded" for late in merged.superseded},
        **{id(refused.arrival): "failed" for refused in merged.refused},
        **{id(arrival): "deleted" for arrival in merged.forgotten},
    }
    for arrival in fresh:
        outcome = ended[id(arrival)]
        # Of no run: the record's own has counted it.
        of_job.reached(outcome, [structs.replace(arrival, origin=places[id(arrival)], run=None)])
        if not coverage.is_covered(arrival.origin):
            coverage.reached(outcome, [arrival])
    await of_job.close()
    return Reprocessed(merged, repeats, withdrawn)


async def _merge(merge: DatasetMerge, arrivals: list[Arrival]) -> tuple[Merged, set[str]]:
    """Take away the rows that these records have under other keys, then merge: they may want the same unique values.

    A record that is refused keeps its row.
    """
    refused = list[Refused]()
    while True:
        try:
            async with savepoint(merge.connection):
                moved = await _withdraw(merge, arrivals)
                merged = await merge.merge(arrivals)
                _require_rows_kept([one for one in merged.refused if one.arrival.origin in moved.values()])
            return merged + Merged([], [], refused), set(moved)
        except _Lost as error:
            refused += error.refused
            left_out = {id(one.arrival) for one in error.refused}
            arrivals = [arrival for arrival in arrivals if id(arrival) not in left_out]


async def _withdraw(merge: DatasetMerge, arrivals: Sequence[Arrival]) -> dict[str, Origin]:
    """Delete the rows that come from these raw records and have another key; returns these keys with their records."""
    connection, dataset = merge.connection, merge.dataset
    keys = sql.key_columns(dataset, [arrival.key for arrival in arrivals])
    partitions, offsets = [a.origin.partition for a in arrivals], [a.origin.offset for a in arrivals]
    in_place = {tuple(row) for row in await connection.fetch(sql.in_place(dataset), *keys, partitions, offsets)}
    elsewhere = {
        place: arrival
        for arrival in arrivals
        if not arrival.deletes and (place := (arrival.origin.partition, arrival.origin.offset)) not in in_place
    }
    if not elsewhere:
        return {}
    rows = await connection.fetch(sql.withdraw(dataset), *map(list, zip(*elsewhere, strict=True)))
    if not rows:
        return {}
    origins = {key: elsewhere[partition, offset].origin for key, partition, offset in rows}
    versions = await merge.deletions.withdrawn(sorted(origins))
    # By the relay, since a redelivery of this batch would not know the key any more.
    events = [ChangeEvent(key, "deleted", version, origins[key]) for key, version in versions.items()]
    await put_into_outbox(connection, dataset, events)
    return origins


def _require_rows_kept(lost: list[Refused]) -> None:
    if lost:
        raise _Lost(lost)


def _apart(arrival: Arrival) -> Origin:
    origin = arrival.origin
    return Origin(
        reprocessing_topic(arrival.reprocess or "", origin.topic), origin.partition, origin.offset, origin.timestamp
    )
