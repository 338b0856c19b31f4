"""Decides which record of a key wins: the newest, or the first where the dataset says so; deletes go before records.

Where the first wins, a key's row is its oldest record that is newer than its latest delete. The tombstone stays beside
the row, so that a record from before the delete, which comes late and is older than the row, does not take its place:
see decision 0015.
"""

from collections.abc import Awaitable, Callable

from sinks.postgres.arrivals import Arrival, newest_per_key, oldest_per_key
from sinks.postgres.deletions import Tombstone, overtaken_by
from sinks.postgres.merge import DatasetMerge, Merged, Stored


async def merge_arrivals(merge: DatasetMerge, arrivals: list[Arrival]) -> Merged:
    """Merge these arrivals, in whatever order they are and however many of a key.

    Where the record that wins is refused, the next one of its key gets its turn. Where the first wins, a key may have
    two outcomes: deleted, and stored again.
    """
    if not merge.dataset.first_wins:
        return await _in_turn(arrivals, newest_per_key, lambda newest: _apply_newest(merge, newest))
    records = [arrival for arrival in arrivals if not arrival.deletes]
    merged = Merged([], [], [])
    if len(records) < len(arrivals):
        newest, overtaken = newest_per_key([arrival for arrival in arrivals if arrival.deletes])
        merged += Merged([], overtaken, []) + await _delete(merge, newest)
    if records:
        late, records = _late(records, await merge.deletions.tombstones([arrival.key for arrival in records]))
        merged.superseded.extend(late)
    return merged + await _in_turn(records, oldest_per_key, merge.merge)


async def _in_turn(
    arrivals: list[Arrival],
    one_per_key: Callable[[list[Arrival]], tuple[list[Arrival], list[Arrival]]],
    apply: Callable[[list[Arrival]], Awaitable[Merged]],
) -> Merged:
    merged = Merged([], [], [])
    while arrivals:
        chosen, others = one_per_key(arrivals)
        result = await apply(chosen)
        merged += result
        refused = {item.arrival.key for item in result.refused}
        arrivals = [arrival for arrival in others if arrival.key in refused]
        merged.superseded.extend(arrival for arrival in others if arrival.key not in refused)
    return merged


async def _apply_newest(merge: DatasetMerge, newest: list[Arrival]) -> Merged:
    """Delete and store, each key once, what is newer than its tombstone.

    Deletes come first, so that a unique value which they free can be taken by a record of the same batch.
    """
    tombstones = await merge.deletions.tombstones([arrival.key for arrival in newest])
    late, newest = _late(newest, tombstones)
    merged = Merged([], late, [])
    if deletes := [arrival for arrival in newest if arrival.deletes]:
        merged += await _delete(merge, deletes)
        newest = [arrival for arrival in newest if not arrival.deletes]
    if newest:
        result = await merge.merge(newest)
        merged += result
        if tombstones:
            await merge.deletions.forget([stored.arrival.key for stored in result.stored])
    return merged


def _late(arrivals: list[Arrival], tombstones: dict[str, Tombstone]) -> tuple[list[Arrival], list[Arrival]]:
    """Split into those that their key's tombstone has overtaken, and the others."""
    if not tombstones:
        return [], arrivals
    late, others = list[Arrival](), list[Arrival]()
    for arrival in arrivals:
        known = tombstones.get(arrival.key)
        (late if known is not None and overtaken_by(known, arrival) else others).append(arrival)
    return late, others


async def _delete(merge: DatasetMerge, deletes: list[Arrival]) -> Merged:
    """Apply one delete per key."""
    merged = Merged([], [], [])
    versions = await merge.deletions.delete(deletes)
    for arrival in deletes:
        if version := versions.get(arrival.key):
            merged.stored.append(Stored(arrival, "deleted", version, None, None, None))
        else:
            merged.superseded.append(arrival)
    return merged
