"""Merges a batch's arrivals of a dataset whose first record wins: deletes first, then the oldest record of each key.

A key's row is its oldest record that is newer than its latest delete. The tombstone stays beside the row, so that a
record from before the delete, which comes late and is older than the row, does not take its place: see decision 0015.
"""

from sinks.postgres.arrivals import Arrival, newest_per_key, oldest_per_key
from sinks.postgres.deletions import Deletions, overtaken_by
from sinks.postgres.merge import DatasetMerge, Merged, Stored


async def merge_oldest_first(merge: DatasetMerge, deletions: Deletions, arrivals: list[Arrival]) -> Merged:
    """Apply the latest delete of each key, then merge the oldest record that is newer than it.

    Where that is refused, the next oldest gets its turn. A key may have an outcome of both: deleted, and stored anew.
    """
    deletes = [arrival for arrival in arrivals if arrival.deletes]
    merged = await _delete(deletions, deletes) if deletes else Merged([], [], [])
    records = [arrival for arrival in arrivals if not arrival.deletes]
    tombstones = await deletions.tombstones([arrival.key for arrival in records]) if records else {}
    if tombstones:
        late = [a for a in records if (known := tombstones.get(a.key)) and overtaken_by(known, a)]
        merged.superseded.extend(late)
        buried = {id(arrival) for arrival in late}
        records = [arrival for arrival in records if id(arrival) not in buried]
    while records:
        oldest, later = oldest_per_key(records)
        result = await merge.merge(oldest)
        merged += result
        refused = {item.arrival.key for item in result.refused}
        records = [arrival for arrival in later if arrival.key in refused]
        merged.superseded.extend(arrival for arrival in later if arrival.key not in refused)
    return merged


async def _delete(deletions: Deletions, deletes: list[Arrival]) -> Merged:
    newest, overtaken = newest_per_key(deletes)
    versions = await deletions.delete(newest)
    merged = Merged([], overtaken, [])
    for arrival in newest:
        if version := versions.get(arrival.key):
            merged.stored.append(Stored(arrival, "deleted", version, None, None, None))
        else:
            merged.superseded.append(arrival)
    return merged
