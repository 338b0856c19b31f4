"""`headrace sink postgres`: *.clean and failures → tables, coverage, ingest_failures → *.changed and failures."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

import structlog

from runtime.failure_limit import FailureLimit
from runtime.fault_points import crash_here
from runtime.instruments import BoundedLabels, from_zero
from runtime.kafka.confirmed import Outgoing, Publisher
from runtime.metrics import DEAD_LETTERS, OUTCOMES, RECORD_SECONDS
from runtime.settings import Settings
from runtime.tracing import note_outcome
from schemas.dataset import Dataset
from schemas.events import FailedRecord, Origin
from schemas.masking import masked_key
from schemas.mentions import mentioned
from schemas.registry import all_datasets, ingested_datasets
from sinks.epoch_watch import EpochWatch
from sinks.failed_records import RawPayloads, outgoing_failure
from sinks.postgres import statements as sql
from sinks.postgres.arrivals import Arrival
from sinks.postgres.batch import Batch, Decoder
from sinks.postgres.change_events import row_events, stored_events
from sinks.postgres.connection import DatasetMisfit, SinkConnection, blaming
from sinks.postgres.coverage import CoverageUpdate, purge_run_outcomes
from sinks.postgres.deletions import purge_tombstones
from sinks.postgres.failures import (
    STAGE,
    failed_arrival,
    find_own_failures,
    insert_failures,
    unread,
    with_raw_payloads,
)
from sinks.postgres.merge import DatasetMerge, ManyRefused, Merged, Refused
from sinks.postgres.pending import forget_announced, keep_claims, settle_claims
from sinks.postgres.reprocessed import merge_reprocessed
from sinks.postgres.void_offsets import VoidOffsets
from sinks.sink import Message
from stores import tables
from stores.epochs import is_raw
from stores.failure_states import DOWNSTREAM_STAGES
from stores.forgotten import ForgottenKeys
from stores.migrate import setup_schema
from stores.outages import GRANTED
from stores.postgres_connection import Connection

_DENIED = """SELECT name FROM unnest($1::text[]) AS name WHERE NOT (
    has_table_privilege(quote_ident(name), 'SELECT') AND has_table_privilege(quote_ident(name), 'INSERT')
    AND has_table_privilege(quote_ident(name), 'UPDATE') AND has_table_privilege(quote_ident(name), 'DELETE'))"""
"""Tables that our user may not read and write."""

log = structlog.get_logger()

PURGE_EVERY_SECONDS = 3600.0

MOST_REFUSED = 500
"""Records that are singled out within one transaction; with more of them the batch is stored in parts."""

PART_RECORDS = 1_000

LOGGED_KEYS = 10
"""Of refused records in one line of the log."""

UNDECODABLE = "messages of {} that no stage of ours wrote"


@dataclass
class _Stored:
    """The work of a transaction, for what follows its commit."""

    outgoing: list[Outgoing] = field(default_factory=list)
    failures: list[FailedRecord] = field(default_factory=list)
    """To be published, unless they are settled at once."""
    recorded: set[Origin] = field(default_factory=set)
    """Of records whose failures, if they have failed, are to be published as they stand in the table."""
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Dead letters by dataset, stage and reason code."""
    arrived: dict[str, list[int]] = field(default_factory=dict)
    """By dataset, when its new records came into Kafka: milliseconds, -1 where nobody knows."""
    judged: dict[str, tuple[int, int]] = field(default_factory=dict)
    touched: dict[Dataset, tuple[set[str], set[str]]] = field(default_factory=dict)
    """Keys whose rows, and keys whose claims may have changed, of datasets with unique fields."""

    def touch(self, dataset: Dataset, changed: set[str], claimed: set[str]) -> None:
        known = self.touched.setdefault(dataset, (set(), set()))
        known[0].update(changed)
        known[1].update(claimed)


class PostgresSink:
    """Implements Sink. One transaction per batch; change events are confirmed before offsets are committed."""

    name = "postgres"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = SinkConnection(settings)
        self._publisher = Publisher(settings)
        self._payloads = RawPayloads(settings)
        self._limit = FailureLimit(settings)
        self._epochs = EpochWatch(settings)
        self._void = VoidOffsets(settings)
        self._forgotten = ForgottenKeys(settings.forget_secrets)
        self._decoder = Decoder(settings)
        self._purged_at = 0.0
        self._reasons = BoundedLabels()
        self._unannounced: set[int] = set()
        """Failures that were settled, and the rows that they became are still to be announced."""
        self.paused: dict[str, str] = {}
        names = [dataset.name for dataset in ingested_datasets()]
        from_zero(OUTCOMES, names, (*tables.OUTCOMES, "repeat", "reprocessed"))
        from_zero(RECORD_SECONDS, names)

    async def setup(self) -> None:
        await self._publisher.connect()
        misfits = (await setup_schema(self._settings)).misfits
        async with self._connection.use() as (connection, _):
            covered = await connection.fetch("SELECT DISTINCT topic FROM coverage")
            tables = [dataset.table for dataset in ingested_datasets()]
            denied = {table for (table,) in await connection.fetch(_DENIED, tables)}
        self._connection.discard()  # the next write makes its staging tables, of the tables as they are now
        # Raw topics of this pipeline that have any coverage, whoever declared them.
        self._decoder.raw_topics |= {topic for (topic,) in covered if is_raw(topic, self._settings)}
        self._void.watch()
        held_up = {
            dataset: misfits.get(dataset.name)
            or f"{dataset.name}: permission denied for table {dataset.table}; {GRANTED}"
            for dataset in ingested_datasets()
            if dataset.name in misfits or dataset.table in denied
        }
        self.paused = {dataset.clean_topic: reason for dataset, reason in held_up.items()}

    def prepare(self, messages: Sequence[Message]) -> Batch:
        return self._decoder.decode(messages)

    async def write(self, batch: Batch) -> Awaitable[None] | None:
        while True:
            batch.leave_out(self._paused_datasets())
            try:
                return await self._write(batch)
            except DatasetMisfit as misfit:
                log.error("dataset_paused", dataset=misfit.dataset.name, reason=misfit.reason)  # noqa: TRY400
                self.paused = {**self.paused, misfit.dataset.clean_topic: str(misfit)}

    def _paused_datasets(self) -> set[str]:
        return {dataset.name for dataset in ingested_datasets() if dataset.clean_topic in self.paused}

    async def _write(self, batch: Batch) -> Awaitable[None] | None:
        async with self._connection.use() as (connection, new):
            if new:
                paused = self._paused_datasets()
                for dataset in ingested_datasets():
                    if dataset.name not in paused:
                        with blaming(dataset):
                            await connection.execute(sql.create_stage(dataset))
            if await self._epochs.check(connection, batch.origins()):
                batch.rebase(self._epochs.rebased)
            try:
                outgoing = await self.store(connection, batch, MOST_REFUSED)
            except ManyRefused:
                outgoing = []
                for part in batch.parts(PART_RECORDS):
                    # What is in the table is told of even if the failure limit is reached with the next part.
                    await self._tell(await self.store(connection, part))
            if settled := self._unannounced.copy():
                await self._tell(outgoing)
                await forget_announced(connection, settled)
                self._unannounced -= settled
                outgoing = []
            await self._purge(connection)
            await self._void.relieve()
        return self._tell(outgoing)

    async def _tell(self, outgoing: list[Outgoing]) -> None:
        crash_here("rows_committed")
        await (await self._publisher.publish(outgoing)).confirmed()
        crash_here("changes_confirmed")

    async def _purge(self, connection: Connection) -> None:
        if time.monotonic() - self._purged_at > PURGE_EVERY_SECONDS:
            await purge_tombstones(connection, self._settings.tombstone_retention_hours)
            await purge_run_outcomes(connection)
            self._purged_at = time.monotonic()

    async def store(self, connection: Connection, batch: Batch, most_refused: int = sys.maxsize) -> list[Outgoing]:
        """Write the batch in one transaction; returns what is to be published of it, in order. Idempotent.

        After its commit, claims that waited for what it freed are applied: see sinks/postgres/pending. Raises
        ManyRefused when more than `most_refused` of a dataset have to be singled out, DatasetMisfit, and
        FailureLimitReached.
        """
        stored = _Stored()
        async with connection.transaction():
            coverage = CoverageUpdate(connection)
            await coverage.open(batch.origins())
            forgotten = await self._forgotten.open(connection)
            merges = {
                dataset: DatasetMerge(connection, dataset, most_refused, forgotten=forgotten)
                for dataset in (*batch.arrivals, *batch.reprocessed)
            }
            for dataset, arrivals in batch.arrivals.items():
                with blaming(dataset):
                    await self._store_dataset(coverage, merges[dataset], arrivals, stored)
            # A batch comes again while Kafka is away after its commit: what is covered has been counted.
            undecodable = Counter(
                failed.dataset for failed in batch.undecodable if not coverage.is_covered(failed.origin)
            )
            for dataset_name, count in undecodable.items():
                self._limit.judge(UNDECODABLE.format(dataset_name), count, count)
                stored.judged[UNDECODABLE.format(dataset_name)] = count, count
            gone = _of_forgotten(forgotten, [*batch.foreign, *batch.reported, *batch.undecodable])
            recorded = [failed for failed in batch.foreign if failed.origin not in gone]
            for failed in (*batch.reported, *batch.undecodable):
                fresh = not (coverage.is_covered(failed.origin) or (failed.held and coverage.is_held(failed.origin)))
                if failed.stage in DOWNSTREAM_STAGES:
                    if failed.origin not in gone:
                        recorded.append(failed)
                elif fresh and failed.origin in gone:
                    coverage.reached("deleted", [failed])
                    stored.tally[failed.dataset, "deleted"] += 1
                elif fresh:
                    outcome = "held" if failed.held else "failed"
                    coverage.reached(outcome, [failed])
                    recorded.append(failed)
                    stored.tally[failed.dataset, outcome] += 1
            # Foreign ones cover no offset that tells whether they have been counted: the table does.
            news = await insert_failures(connection, recorded)
            stored.dead.update((failed.dataset, failed.stage, failed.reason) for failed in news if not failed.held)
            for dataset, arrivals in batch.reprocessed.items():
                with blaming(dataset):
                    await self._reprocess(coverage, merges[dataset], arrivals, stored)
            # Of one whose record had reached another outcome there is nothing to tell.
            stored.recorded.update(failed.origin for failed in batch.undecodable)
            await coverage.close()
        self._void.note(coverage.parts)
        for name, counts in stored.judged.items():
            self._limit.count(name, *counts)
        self._measure(stored)
        return await self._settled(connection, stored)

    def _measure(self, stored: _Stored) -> None:
        """Count what has been committed."""
        for (dataset_name, outcome), count in stored.tally.items():
            OUTCOMES.labels(dataset_name, outcome).inc(count)
        for labels, count in stored.dead.items():  # names that anybody can have sent
            DEAD_LETTERS.labels(*map(self._reasons.of, labels)).inc(count)
        now = time.time()
        for dataset_name, arrived in stored.arrived.items():
            seconds = [now - ms / 1000 for ms in arrived if ms > 0]
            RECORD_SECONDS.labels(dataset_name).observe_all(seconds)

    async def _settled(self, connection: Connection, stored: _Stored) -> list[Outgoing]:
        """Settle the claims that were waiting for what has been committed; returns all that is to be published."""
        outgoing, resolved = stored.outgoing, set()
        for dataset, (changed, claimed) in stored.touched.items():
            with blaming(dataset):
                settled = await settle_claims(connection, dataset, changed, claimed)
                outgoing += await row_events(
                    connection, dataset, sorted(set(settled.unannounced.values())), self._settings
                )
            resolved |= settled.resolved
            self._unannounced |= settled.unannounced.keys()
        failures = stored.failures
        if stored.recorded:
            found, of_resolved = await find_own_failures(connection, stored.recorded)
            failures, resolved = [*failures, *found], resolved | of_resolved
        failures = await with_raw_payloads(connection, self._payloads, failures)
        open_failures = (failed for failed in failures if failed.origin not in resolved)
        return [*outgoing, *(outgoing_failure(failed, self._settings) for failed in open_failures)]

    async def _store_dataset(
        self, coverage: CoverageUpdate, merge: DatasetMerge, arrivals: list[Arrival], stored: _Stored
    ) -> None:
        connection, dataset = merge.connection, merge.dataset
        fresh, repeats = _without_repeats(coverage, arrivals)
        merged = await self.merge(merge, fresh)
        for outcome, ended in merged.by_outcome().items():
            coverage.reached(outcome, ended)
            stored.tally[dataset.name, outcome] += len(ended)
            note_outcome(dataset.name, outcome, (arrival.key for arrival in ended))
        stored.arrived[dataset.name] = [arrival.origin.timestamp for arrival in fresh]
        hopeless = _hopeless(merged.refused)
        self._limit.judge(dataset.name, hopeless, len(fresh))
        stored.judged[dataset.name] = hopeless, len(fresh)
        failures = [unread(failed_arrival(*refused[:3])) for refused in merged.refused]
        await insert_failures(connection, failures)
        stored.dead.update((dataset.name, STAGE, refused.reason) for refused in merged.refused)
        await keep_claims(connection, merged.refused)
        _log_refused(dataset, merged.refused)
        if repeats:
            # Their events may have been lost in a crash after the commit, so all is said again.
            stored.recorded.update(arrival.origin for arrival in repeats)
            stored.tally[dataset.name, "repeat"] += len(repeats)
        others = {arrival.key for arrival in (*merged.superseded, *repeats)}
        if others:
            others -= {stored.arrival.key for stored in merged.stored}
        stored.outgoing += stored_events(dataset, merged.stored, self._settings)
        stored.outgoing += await row_events(connection, dataset, sorted(others), self._settings)
        stored.failures += failures
        if dataset.unique:
            changed = {arrival.key for arrival in repeats}  # as far as anybody knows
            claimed = changed.union(one.arrival.key for one in merged.refused)
            for one in merged.stored:
                (claimed if one.outcome == "unchanged" else changed).add(one.arrival.key)
            stored.touch(dataset, changed, claimed)

    async def merge(self, merge: DatasetMerge, arrivals: list[Arrival]) -> Merged:
        """Merge new arrivals of a dataset into its table."""
        return await merge.merge(arrivals)

    async def _reprocess(
        self, coverage: CoverageUpdate, merge: DatasetMerge, arrivals: list[Arrival], stored: _Stored
    ) -> None:
        dataset = merge.dataset
        merged, repeats, withdrawn = await merge_reprocessed(coverage, merge, arrivals)
        stored.tally[dataset.name, "reprocessed"] += len(arrivals)
        _log_refused(dataset, merged.refused)
        # What was held has its original already.
        held = [refused for refused in merged.refused if coverage.is_held(refused.arrival.origin)]
        await insert_failures(merge.connection, [failed_arrival(*refused[:3]) for refused in held])
        changed = [one for one in merged.stored if one.outcome != "unchanged"]
        again = {arrival.key for arrival in repeats} - {one.arrival.key for one in changed}
        stored.outgoing += stored_events(dataset, changed, self._settings)
        stored.outgoing += await row_events(merge.connection, dataset, sorted(again), self._settings)
        if dataset.unique:
            stored.touch(dataset, {*withdrawn, *again, *(one.arrival.key for one in changed)}, set())

    async def close(self) -> None:
        await self._publisher.close()
        await self._payloads.close()
        await self._epochs.close()
        await self._void.close()
        await self._connection.close()


def _log_refused(dataset: Dataset, refused: Sequence[Refused]) -> None:
    """A line per reason and batch, however many there are; each record is in `ingest_failures`."""
    keys = defaultdict(list)
    for one in refused:
        keys[one.reason].append(masked_key(dataset, one.arrival.key))
    for reason, of_reason in keys.items():
        log.warning(
            "records_refused", dataset=dataset.name, reason=reason, count=len(of_reason), keys=of_reason[:LOGGED_KEYS]
        )


def _without_repeats(coverage: CoverageUpdate, arrivals: list[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
    """Split into those that are new and those that have reached an outcome already."""
    if coverage.all_new:
        return arrivals, []
    fresh, repeats, seen = [], [], set()
    for arrival in arrivals:
        place = arrival.origin.coordinates
        if place in seen or coverage.is_covered(arrival.origin):
            repeats.append(arrival)
        else:
            seen.add(place)
            fresh.append(arrival)
    return fresh, repeats


def _of_forgotten(forgotten: ForgottenKeys | None, failures: Sequence[FailedRecord]) -> set[Origin]:
    """The origins of those failures that name a forgotten key: nothing of them is kept."""
    if forgotten is None or not failures:
        return set()
    datasets = {dataset.name: dataset for dataset in all_datasets()}
    names = {
        failed.origin: mentioned(datasets[failed.dataset], failed.key, failed.payload)
        for failed in failures
        if failed.dataset in datasets
    }
    known = forgotten.among(set().union(*names.values()))
    return {origin for origin, named in names.items() if not named.isdisjoint(known)}


def _hopeless(refused: Sequence[Refused]) -> int:
    """The number that counts for the failure limit: of those that want one unique value, the first may get it yet."""
    wanted = {(one.field, one.arrival.unique[one.field]) for one in refused if one.field is not None}
    return len(refused) - len(wanted)
