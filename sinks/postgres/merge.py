"""Merges arrivals into their table, set by set; what Postgres refuses is singled out, its neighbours go through.

Of the records of a key the newest wins, or the first where the dataset says so; deletes go before records. Where the
first wins, a key's row is its oldest record that is newer than its latest delete. The tombstone stays beside the row,
so that a record from before the delete, which comes late and is older than the row, does not take its place
(decision 0015).
"""

import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from asyncpg import UniqueViolationError
from asyncpg.exceptions import PostgresError

from schemas.dataset import Dataset
from schemas.mentions import names_of
from sinks.postgres import statements as sql
from sinks.postgres.arrivals import Arrival, newest_per_key, oldest_per_key
from sinks.postgres.claims import Claim, judge
from sinks.postgres.connection import savepoint
from sinks.postgres.deletions import Deletions, Tombstone
from sinks.postgres.statements import INSERTED, UPDATED
from stores.forgotten import ForgottenKeys
from stores.outages import in_words, is_refusal, reason_of_refusal
from stores.postgres_connection import Connection

_by_arrival = attrgetter("origin.order")


class Stored(msgspec.Struct, eq=False, gc=False):
    """An arrival whose content is now its row's content. `outcome`: inserted, updated or unchanged.

    Or a delete that left no row: `outcome` is deleted, and there are no times.
    """

    arrival: Arrival
    outcome: str
    version: int
    created_at: datetime | None
    updated_at: datetime | None
    id: int | None


class Refused(NamedTuple):
    """An arrival that can't be stored. For a unique value: `field` is its position in the dataset's, `holder` the key
    that has it, None if that is not known.
    """

    arrival: Arrival
    reason: str
    message: str
    field: int | None = None
    holder: str | None = None


class Merged(NamedTuple):
    """The arrivals of a merge, by where each of them ended."""

    stored: list[Stored]
    superseded: list[Arrival]
    refused: list[Refused]
    forgotten: Sequence[Arrival] = ()
    """Of keys that somebody had forgotten: they count as deleted, and leave nothing."""

    def __add__(self, other: "Merged") -> "Merged":  # type: ignore[override]
        return Merged(
            self.stored + other.stored,
            self.superseded + other.superseded,
            self.refused + other.refused,
            [*self.forgotten, *other.forgotten],
        )

    def accepted(self) -> list[Arrival]:
        return [*(stored.arrival for stored in self.stored), *self.superseded]

    def by_outcome(self) -> dict[str, list[Arrival]]:
        ended = defaultdict(list)
        for stored in self.stored:
            ended[stored.outcome].append(stored.arrival)
        ended["superseded"] = self.superseded
        ended["deleted"].extend(self.forgotten)
        ended["failed"] = [refused.arrival for refused in self.refused]
        return ended


class ManyRefused(Exception):
    """Postgres refuses so many records of this transaction that it should be made smaller."""


class DatasetMerge:
    """Merges arrivals of one dataset inside the caller's transaction.

    Where unique values are known to be `contested`, who gets them is judged first. Raises ManyRefused once more than
    `most_refused` have been singled out. Each neighbour of one that goes through alone takes a place in Postgres's lock
    table until the transaction ends, and the table may have 6,400 places.
    """

    def __init__(
        self,
        connection: Connection,
        dataset: Dataset,
        most_refused: int = sys.maxsize,
        *,
        contested: bool = False,
        forgotten: ForgottenKeys | None = None,
    ) -> None:
        self.connection = connection
        self.dataset = dataset
        self.deletions = Deletions(connection, dataset)
        self._staged = False
        self._still_refused = most_refused
        self._contested = contested
        self._forgotten = forgotten

    async def merge(self, arrivals: list[Arrival]) -> Merged:
        """Merge these, in whatever order they are and however many of a key.

        Where the record that wins is refused, the next one of its key gets its turn. Where the first wins, a key may
        have two outcomes: deleted, and stored again.
        """
        if self._forgotten is None:
            return await self._merge(arrivals)
        gone, others = self._apart(arrivals, self._forgotten)
        return Merged([], [], [], gone) + await self._merge(others)

    def _apart(self, arrivals: list[Arrival], forgotten: ForgottenKeys) -> tuple[list[Arrival], list[Arrival]]:
        """Those that name a forgotten key, and the others."""
        names = [names_of(self.dataset, arrival.key, arrival.data) for arrival in arrivals]
        known = forgotten.among(set().union(*names))
        if not known:
            return [], arrivals
        gone, others = list[Arrival](), list[Arrival]()
        for arrival, named in zip(arrivals, names, strict=True):
            (others if named.isdisjoint(known) else gone).append(arrival)
        return gone, others

    async def _merge(self, arrivals: list[Arrival]) -> Merged:
        if not self.dataset.first_wins:
            return await _in_turn(arrivals, newest_per_key, self._apply_newest)
        records = [arrival for arrival in arrivals if not arrival.deletes]
        merged = Merged([], [], [])
        if len(records) < len(arrivals):
            newest, overtaken = newest_per_key([arrival for arrival in arrivals if arrival.deletes])
            merged += Merged([], overtaken, []) + await self._delete(newest)
        if records:
            late, records = _late(records, await self.deletions.tombstones([arrival.key for arrival in records]))
            merged.superseded.extend(late)
        return merged + await _in_turn(records, oldest_per_key, self._store)

    async def _apply_newest(self, newest: list[Arrival]) -> Merged:
        """Delete and store, each key once, what is newer than its tombstone.

        Deletes come first, so that a unique value which they free can be taken by a record of the same batch.
        """
        tombstones = await self.deletions.tombstones([arrival.key for arrival in newest])
        late, newest = _late(newest, tombstones)
        merged = Merged([], late, [])
        if deletes := [arrival for arrival in newest if arrival.deletes]:
            merged += await self._delete(deletes)
            newest = [arrival for arrival in newest if not arrival.deletes]
        if newest:
            result = await self._store(newest)
            merged += result
            if tombstones:
                await self.deletions.forget([stored.arrival.key for stored in result.stored])
        return merged

    async def _delete(self, deletes: Sequence[Arrival]) -> Merged:
        try:
            async with savepoint(self.connection):
                versions = await self.deletions.delete(deletes)
        except PostgresError as error:  # a row of somebody else's table refers to one of these
            if not is_refusal(error):
                raise
            return await self._isolate(deletes, error, self._delete)
        stored = [Stored(one, "deleted", versions[one.key], None, None, None) for one in deletes if one.key in versions]
        return Merged(stored, [one for one in deletes if one.key not in versions], [])

    async def _store(self, arrivals: Sequence[Arrival], *, by_claims: bool = False) -> Merged:
        """Write these, each key once. On a refusal settle who may have which unique value, or halve the set until the
        culprit is alone.

        Raises what is no refusal (an outage, a bug), and ManyRefused.
        """
        if by_claims := by_claims or self._contested:
            arrivals = sorted(arrivals, key=_by_arrival)
        try:
            async with savepoint(self.connection):
                await self._stage(arrivals)
                return await (self._merge_claims(arrivals) if by_claims else self._merge_staged(arrivals))
        except PostgresError as error:
            if not is_refusal(error):
                raise
            if isinstance(error, UniqueViolationError) and self.dataset.unique and not by_claims:
                return await self._store(arrivals, by_claims=True)
            return await self._isolate(arrivals, error, self._store)

    async def _isolate(
        self,
        arrivals: Sequence[Arrival],
        error: PostgresError,
        again: Callable[[Sequence[Arrival]], Awaitable[Merged]],
    ) -> Merged:
        if len(arrivals) == 1:
            self._still_refused -= 1
            if self._still_refused < 0:
                raise ManyRefused
            reason = reason_of_refusal(error, self.dataset.table, self.dataset.unique)
            field = next((n for n, name in enumerate(self.dataset.unique) if reason == f"{name}_conflict"), None)
            return Merged([], [], [Refused(arrivals[0], reason, in_words(error), field)])
        ordered = sorted(arrivals, key=_by_arrival)
        middle = len(ordered) // 2
        return await again(ordered[:middle]) + await again(ordered[middle:])

    async def _stage(self, arrivals: Sequence[Arrival]) -> None:
        if self._staged:  # by an earlier set of the same transaction
            # TRUNCATE would make a new file each time: 2,000 records with every other one refused took 80 s, not 12.
            await self.connection.execute(f'DELETE FROM "{sql.stage(self.dataset)}"')  # noqa: S608 (a name of ours)
        lines = [
            f"{ordinal}\t{arrival.row}\t{arrival.origin.partition}\t{arrival.origin.offset}\t{arrival.origin.timestamp}\n"
            for ordinal, arrival in enumerate(arrivals)
        ]
        await self.connection.copy_to_table(
            sql.stage(self.dataset),
            source=_chunks("".join(lines).encode()),
            columns=sql.staged_columns(self.dataset),
            format="text",
        )
        self._staged = True

    async def _merge_staged(self, arrivals: Sequence[Arrival], ordinals: Sequence[int] | None = None) -> Merged:
        """Merge these arrivals, which are all that is staged or have these ordinals there."""
        now, keys, versions, outcomes, created, updated, ids = await (
            self.connection.fetchrow(sql.merge(self.dataset))
            if ordinals is None
            else self.connection.fetchrow(sql.merge(self.dataset, some=True), list(ordinals))
        )
        by_key = {arrival.key: arrival for arrival in arrivals}
        earlier_created, earlier_updated = iter(created or ()), iter(updated or ())
        stored = []
        ids = ids or repeat(None)  # endless, where the table has none
        for key, version, outcome, row_id in zip(keys or (), versions or (), outcomes or (), ids, strict=False):
            arrival = by_key.pop(key)
            if outcome == INSERTED:
                stored.append(Stored(arrival, "inserted", version, now, None, row_id))
            elif outcome == UPDATED:
                stored.append(Stored(arrival, "updated", version, next(earlier_created), now, row_id))
            else:
                times = next(earlier_created), next(earlier_updated)
                stored.append(Stored(arrival, "unchanged", version, *times, row_id))
        return Merged(stored, list(by_key.values()), [])

    async def _merge_claims(self, arrivals: Sequence[Arrival]) -> Merged:
        """Merge those of these arrivals, which are all that is staged, that may have the unique values they want."""
        claims, superseded = [], []
        width = len(self.dataset.unique)
        for row in sorted(await self.connection.fetch(sql.holders(self.dataset)), key=lambda row: row["ordinal"]):
            arrival = arrivals[row["ordinal"]]
            if row["wins"]:
                holders = tuple(row[f"holder_{number}"] for number in range(width))
                claims.append(Claim(row["ordinal"], arrival.key, arrival.unique, holders))
            else:
                superseded.append(arrival)
        lost = judge(claims)
        merged = Merged([], superseded, [self._conflict(arrivals[n], *why) for n, why in lost.items()])
        # At once: the constraints hold at the end of a statement, so values may be swapped within it.
        if winners := [claim.ordinal for claim in claims if claim.ordinal not in lost]:
            merged += await self._merge_staged([arrivals[ordinal] for ordinal in winners], winners)
        return merged

    def _conflict(self, arrival: Arrival, field: int, holder: str) -> Refused:
        name = self.dataset.unique[field]
        message = f"{name} {arrival.unique[field]!r} belongs to {', '.join(self.dataset.key)} {holder!r}"
        return Refused(arrival, f"{name}_conflict", message, field, holder)


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


def _late(arrivals: list[Arrival], tombstones: dict[str, Tombstone]) -> tuple[list[Arrival], list[Arrival]]:
    """Split into those that their key's tombstone has overtaken, and the others."""
    if not tombstones:
        return [], arrivals
    late, others = list[Arrival](), list[Arrival]()
    for arrival in arrivals:
        known = tombstones.get(arrival.key)
        (late if known is not None and known.overtakes(arrival) else others).append(arrival)
    return late, others


async def _chunks(data: bytes, size: int = 262_144) -> Any:
    view = memoryview(data)
    for start in range(0, len(view), size):
        yield bytes(view[start : start + size])
