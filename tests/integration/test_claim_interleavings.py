"""hypothesis moves e-mail addresses between customers, whatever the batches, the order of partitions and the sinks.

In the end the source is consistent: then the table is what it says, and so are the books and what followers were told.
"""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import asyncpg
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.settings import Settings
from schemas.events import DELETED, ChangeEvent, CleanRecord
from tests.integration.postgres_sink_driver import Driver, changes, customer, driver

KEYS = "ABCDE"
ADDRESSES = "vwxyz"
PARTITION = {key: number % 2 for number, key in enumerate(KEYS)}

Change = tuple[str, str | None]
"""A key with the address that it is put with, or None for a delete."""

changes_of_keys = st.tuples(st.sampled_from(KEYS), st.one_of(st.sampled_from(ADDRESSES), st.none()))
consistent_ends = st.tuples(st.permutations(KEYS), st.permutations([*ADDRESSES[:4], None])).map(
    lambda drawn: list(zip(*drawn, strict=True))
)


def published(log: Sequence[Change]) -> list[CleanRecord]:
    ends = [0, 0]
    records = []
    for now, (key, address) in enumerate(log):
        partition = PARTITION[key]
        one = customer(key, ends[partition], partition=partition, timestamp=now, email=f"{address}@example.org")
        records.append(one if address else msgspec.structs.replace(one, data=msgspec.Raw(DELETED)))
        ends[partition] += 1
    return records


@given(st.lists(changes_of_keys, max_size=14), consistent_ends, st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_table_becomes_what_a_consistent_source_says(
    migrated_settings: Settings, log: list[Change], end: list[Change], data: st.DataObject
) -> None:
    records = published([*log, *end])
    deliveries = data.draw(st.permutations([*records, *data.draw(st.lists(st.sampled_from(records), max_size=4))]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(deliveries)), max_size=8)) | {0, len(deliveries)})
    batches = [deliveries[start:stop] for start, stop in pairwise(cuts)]
    at_once = data.draw(st.integers(1, 2))
    asyncio.run(_deliver_and_compare(migrated_settings, batches, at_once, dict(end), len(records)))


async def _deliver_and_compare(
    migrated_settings: Settings,
    batches: Sequence[Sequence[CleanRecord]],
    at_once: int,
    end: dict[str, str | None],
    records: int,
) -> None:
    async with driver(migrated_settings) as one, driver(migrated_settings) as other:
        await one.connection.execute("TRUNCATE customers, tombstones, coverage, ingest_failures, failure_actions")
        told: dict[str, ChangeEvent] = {}

        async def write(sink: Driver, batch: Sequence[CleanRecord]) -> None:
            while True:
                try:
                    outgoing = await sink.write(*batch)
                except asyncpg.DeadlockDetectedError:
                    continue  # as the runner does: the batch comes again
                for key, event in changes(outgoing).items():
                    if key not in told or event.version >= told[key].version:
                        told[key] = event
                return

        for start in range(0, len(batches), at_once):
            both = zip((one, other), batches[start : start + at_once], strict=False)
            await asyncio.gather(*(write(sink, batch) for sink, batch in both))
        rows = await one.connection.fetch("SELECT customer_id, email, version FROM customers")
        wanted = {key: f"{address}@example.org" for key, address in end.items() if address}
        assert {row["customer_id"]: row["email"] for row in rows} == wanted
        open_failures = await one.connection.fetchval("SELECT count(*) FROM ingest_failures WHERE state <> 'resolved'")
        counts = await one.counts()
        assert (open_failures, counts.get("failed", 0)) == (0, 0)
        assert sum(counts.values()) == records
        covered = await one.connection.fetchval("SELECT sum(upper(r) - lower(r))::int FROM coverage, unnest(ranges) r")
        assert covered == records
        versions = {row["customer_id"]: row["version"] for row in rows}
        assert {key: event.version for key, event in told.items() if event.op == "stored"} == versions
        emails = {key: msgspec.json.decode(event.data)["email"] for key, event in told.items() if event.op == "stored"}
        assert emails == wanted
