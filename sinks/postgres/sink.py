"""`headrace sink postgres`: *.clean and failures → tables, ledger, ingest_failures → *.changed and failures."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Sequence

import structlog

from runtime.errors import Backpressure
from runtime.failure_limit import FailureLimit
from runtime.fault_points import crash_here
from runtime.rehearsal_watch import RehearsalWatch
from runtime.settings import Settings
from schemas.errors import InvalidRecord
from schemas.events import Origin
from schemas.registry import ingested_datasets
from schemas.topics import FAILURES_TOPIC
from sinks import metrics
from sinks.epoch_watch import EpochWatch
from sinks.failed_records import outgoing_failure
from sinks.postgres.arrivals import Arrival, decode_arrival
from sinks.postgres.batch import Batch
from sinks.postgres.change_events import row_events, stored_events
from sinks.postgres.connection import Connection, SinkConnection
from sinks.postgres.deletions import Deletions, purge_tombstones
from sinks.postgres.failures import (
    DOWNSTREAM_STAGES,
    decode_failed,
    failed_arrival,
    find_own_failures,
    insert_failures,
    undecodable,
)
from sinks.postgres.ledger import Ledger
from sinks.postgres.merge import DatasetMerge, ManyRefused, Merged, Refused
from sinks.postgres.newest_first import merge_newest_first
from sinks.postgres.oldest_first import merge_oldest_first
from sinks.postgres.rehearsed import struck_by
from sinks.postgres.schema import setup_schema
from sinks.postgres.statements import statements
from sinks.postgres.verdicts import STORE, in_words, is_outage
from sinks.postgres.void_offsets import VoidOffsets
from sinks.publisher import Outgoing, Publisher
from sinks.raw_originals import RawOriginals
from sinks.sink import Message

log = structlog.get_logger()

PURGE_EVERY_SECONDS = 3600.0

MOST_REFUSED = 500
"""Records that are singled out within one transaction; with more of them the batch is stored in parts."""

PART_RECORDS = 1_000


LOGGED_KEYS = 10
"""Of refused records in one line of the log."""

UNDECODABLE = "messages that no stage of ours wrote"


class PostgresSink:
    """Implements Sink. One transaction per batch; change events are confirmed before offsets are committed."""

    name = "postgres"
    group = "sink-postgres"

    def __init__(self, settings: Settings, rehearsal: RehearsalWatch | None = None) -> None:
        self._settings = settings
        self._connection = SinkConnection(settings)
        self._publisher = Publisher(settings)
        self._originals = RawOriginals(settings)
        self._limit = FailureLimit(settings)
        self._epochs = EpochWatch(settings)
        self._void = VoidOffsets(settings)
        self._rehearsal = rehearsal
        self._purged_at = 0.0
        self._datasets = {settings.named(dataset.clean_topic): dataset for dataset in ingested_datasets()}

    @property
    def topics(self) -> tuple[str, ...]:
        return (*(dataset.clean_topic for dataset in ingested_datasets()), FAILURES_TOPIC)

    async def setup(self) -> None:
        await setup_schema(self._settings)
        self._void.watch()

    def prepare(self, messages: Sequence[Message]) -> Batch:
        batch = Batch()
        for message in messages:
            dataset = self._datasets.get(message.topic())
            try:
                if dataset is not None:
                    batch.arrivals.setdefault(dataset, []).append(decode_arrival(dataset, message.value()))
                else:
                    batch.reported.append(decode_failed(message.value()))
            except InvalidRecord as error:
                batch.undecodable.append(undecodable(message, dataset, error))
        return batch

    async def write(self, batch: Batch) -> Awaitable[None] | None:
        try:
            connection, new = await self._connection.open()
            if new:
                for dataset in ingested_datasets():
                    await connection.execute(statements(dataset).create_stage)
            if await self._epochs.look(connection, batch.origins()):
                batch.rebase(self._epochs.rebased)
            try:
                outgoing = await self.store(connection, batch, MOST_REFUSED)
            except ManyRefused:
                outgoing = []
                for part in batch.parts(PART_RECORDS):
                    # What is in the table is told of even if the failure limit is reached with the next part.
                    await self._tell(await self.store(connection, part))
            await self._purge(connection)
            await self._void.relieve()
        except Exception as error:
            self._connection.discard()
            if is_outage(error):
                raise Backpressure(STORE, in_words(error)) from error
            raise
        return self._tell(outgoing)

    async def _tell(self, outgoing: list[Outgoing]) -> None:
        crash_here("rows_committed")
        await (await self._publisher.publish(outgoing)).confirmed()
        crash_here("changes_confirmed")

    async def _purge(self, connection: Connection) -> None:
        if time.monotonic() - self._purged_at > PURGE_EVERY_SECONDS:
            await purge_tombstones(connection, self._settings.tombstone_retention_hours)
            self._purged_at = time.monotonic()

    async def store(self, connection: Connection, batch: Batch, most_refused: int = sys.maxsize) -> list[Outgoing]:
        """Write the batch in one transaction; returns what is to be published of it, in order. Idempotent.

        Raises ManyRefused when more than `most_refused` of a dataset have to be singled out, and FailureLimitReached.
        """
        outgoing: list[Outgoing] = []
        tally: Counter[tuple[str, str]] = Counter()
        judged: dict[str, tuple[int, int]] = {}
        async with connection.transaction():
            ledger = Ledger(connection)
            await ledger.open(batch.origins())
            for dataset, arrivals in batch.arrivals.items():
                outgoing += await self._store_dataset(
                    ledger, DatasetMerge(connection, dataset, most_refused), arrivals, tally, judged
                )
            if batch.undecodable:
                self._limit.judge(UNDECODABLE, len(batch.undecodable), len(batch.undecodable))
                judged[UNDECODABLE] = len(batch.undecodable), len(batch.undecodable)
            recorded = []
            for failed in (*batch.reported, *batch.undecodable):
                fresh = not ledger.is_covered(failed.origin)
                if failed.stage in DOWNSTREAM_STAGES:
                    recorded.append(failed)
                elif fresh:
                    ledger.reached("failed", [failed.origin])
                    recorded.append(failed)
                    tally[failed.dataset, "failed"] += 1
            await insert_failures(connection, recorded)
            await ledger.close()
        self._void.note(ledger.parts)
        for name, counts in judged.items():
            self._limit.count(name, *counts)
        outgoing += [outgoing_failure(failed, self._settings) for failed in batch.undecodable]
        for (dataset_name, outcome), count in tally.items():
            metrics.OUTCOMES.labels(dataset_name, outcome).inc(count)
        return outgoing

    async def _store_dataset(
        self,
        ledger: Ledger,
        merge: DatasetMerge,
        arrivals: list[Arrival],
        tally: Counter[tuple[str, str]],
        judged: dict[str, tuple[int, int]],
    ) -> list[Outgoing]:
        connection, dataset = merge.connection, merge.dataset
        fresh, repeats = _without_repeats(ledger, arrivals)
        judged_of = len(fresh)
        fresh, struck = (fresh, []) if self._rehearsal is None else struck_by(self._rehearsal, fresh)
        merge_fresh = merge_oldest_first if dataset.first_wins else merge_newest_first
        merged = await merge_fresh(merge, Deletions(connection, dataset), fresh)
        merged.refused.extend(struck)
        for outcome, origins in _outcomes(merged).items():
            ledger.reached(outcome, origins)
            tally[dataset.name, outcome] += len(origins)
        self._limit.judge(dataset.name, len(merged.refused), judged_of)
        judged[dataset.name] = len(merged.refused), judged_of
        failures = await self._originals.attach([failed_arrival(*refused) for refused in merged.refused])
        await insert_failures(connection, failures)
        _log_refused(dataset.name, merged.refused)
        if repeats:
            # Their events may have been lost in a crash after the commit, so all is said again.
            failures += await find_own_failures(connection, [arrival.origin for arrival in repeats])
            tally[dataset.name, "repeat"] += len(repeats)
        others = {arrival.key for arrival in (*merged.superseded, *repeats)}
        if others:
            others -= {stored.arrival.key for stored in merged.stored}
        return [
            *stored_events(dataset, merged.stored, self._settings),
            *await row_events(connection, dataset, sorted(others), self._settings),
            *(outgoing_failure(failed, self._settings) for failed in failures),
        ]

    async def close(self) -> None:
        await self._publisher.close()
        await self._originals.close()
        await self._void.close()
        await self._connection.close()


def _log_refused(dataset: str, refused: Sequence[Refused]) -> None:
    """A line per reason and batch, however many there are; each record is in `ingest_failures`."""
    keys = defaultdict(list)
    for one in refused:
        keys[one.reason].append(one.arrival.key)
    for reason, of_reason in keys.items():
        log.warning(
            "records_refused", dataset=dataset, reason=reason, count=len(of_reason), keys=of_reason[:LOGGED_KEYS]
        )


def _without_repeats(ledger: Ledger, arrivals: list[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
    """Split into those that are new and those that have reached an outcome already."""
    if ledger.all_new:
        return arrivals, []
    fresh, repeats, seen = [], [], set()
    for arrival in arrivals:
        place = (arrival.origin.topic, arrival.origin.partition, arrival.origin.offset)
        if place in seen or ledger.is_covered(arrival.origin):
            repeats.append(arrival)
        else:
            seen.add(place)
            fresh.append(arrival)
    return fresh, repeats


def _outcomes(merged: Merged) -> dict[str, list[Origin]]:
    """The coordinates of the records by where they ended."""
    ended = defaultdict(list)
    for stored in merged.stored:
        ended[stored.outcome].append(stored.arrival.origin)
    ended["superseded"] = [arrival.origin for arrival in merged.superseded]
    ended["failed"] = [refused.arrival.origin for refused in merged.refused]
    return ended
