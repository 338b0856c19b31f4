"""Merges a batch's arrivals of one dataset, newest of each key first; deletes before records."""

from sinks.postgres.arrivals import Arrival, newest_per_key
from sinks.postgres.deletions import Deletions, overtaken_by
from sinks.postgres.merge import DatasetMerge, Merged, Stored


async def merge_newest_first(merge: DatasetMerge, deletions: Deletions, arrivals: list[Arrival]) -> Merged:
    """Merge the newest arrival of each key; where it is refused, the one that it had overtaken gets its turn."""
    merged = Merged([], [], [])
    while arrivals:
        newest, overtaken = newest_per_key(arrivals)
        result = await _apply(merge, deletions, newest)
        merged += result
        refused = {item.arrival.key for item in result.refused}
        arrivals = [arrival for arrival in overtaken if arrival.key in refused]
        merged.superseded.extend(arrival for arrival in overtaken if arrival.key not in refused)
    return merged


async def _apply(merge: DatasetMerge, deletions: Deletions, newest: list[Arrival]) -> Merged:
    """Delete and store, each key once, what is newer than its tombstone.

    Deletes come first, so that a unique value which they free can be taken by a record of the same batch.
    """
    tombstones = await deletions.tombstones([arrival.key for arrival in newest])
    superseded = []
    if tombstones:
        superseded = [a for a in newest if (known := tombstones.get(a.key)) and overtaken_by(known, a)]
        late = {arrival.key for arrival in superseded}
        newest = [arrival for arrival in newest if arrival.key not in late]
    merged = Merged([], superseded, [])
    if deletes := [arrival for arrival in newest if arrival.deletes]:
        versions = await deletions.delete(deletes)
        for arrival in deletes:
            if version := versions.get(arrival.key):
                merged.stored.append(Stored(arrival, "deleted", version, None, None, None))
            else:
                merged.superseded.append(arrival)
        newest = [arrival for arrival in newest if not arrival.deletes]
    if newest:
        result = await merge.merge(newest)
        merged += result
        if tombstones:
            await deletions.forget([stored.arrival.key for stored in result.stored])
    return merged
