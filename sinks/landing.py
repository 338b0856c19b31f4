"""`headrace sink landing`: *.raw → raw_csv_data (CSV rows) and raw_api_data (all else), bytes untouched."""

from collections.abc import Awaitable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple, get_args

from runtime.kafka.browse import at_ms
from runtime.kafka.message_headers import message_headers
from runtime.settings import Settings
from schemas.events import HEADER_KIND, HEADER_RUN, HEADER_SOURCE, Origin
from schemas.mentions import Name, mentioned
from schemas.registry import dataset_named, ingested_datasets
from schemas.source_headers import PUSHED
from schemas.source_kinds import LANDING_TABLES, LandingTable
from sinks.drift import store as drifts
from sinks.drift.fields import Group, RawRow, Shape, SourceShape, observations, postgres_text, source_shape
from sinks.epoch_watch import EpochWatch
from sinks.postgres.connection import SinkConnection
from sinks.sink import Message
from stores.epochs import real_topic
from stores.forgotten import ForgottenKeys
from stores.migrate import setup_schema
from stores.postgres_connection import Connection

TABLES: tuple[LandingTable, ...] = get_args(LandingTable)
COLUMNS = ("topic", "partition", "offset", "key", "source_name", "run_id", "payload", "received_at")

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class Batch(NamedTuple):
    """The rows for each table, their shapes, and the coordinates at which they came."""

    rows: dict[str, list[RawRow]]
    shapes: dict[str, list[SourceShape]]
    origins: dict[str, list[Origin]]

    def sources(self) -> set[str]:
        return {row[4] or PUSHED for rows in self.rows.values() for row in rows}


class LandingSink:
    """Implements Sink. A record that is there already stays as it is."""

    name = "landing"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = SinkConnection(settings)
        self._epochs = EpochWatch(settings)
        self._forgotten = ForgottenKeys(settings.forget_secrets)
        self._datasets = {settings.named(dataset.raw_topic): dataset.name for dataset in ingested_datasets()}
        self.paused: dict[str, str] = {}
        drifts.count_from_zero(self._datasets.values())

    async def setup(self) -> None:
        await setup_schema(self._settings)

    def prepare(self, messages: Sequence[Message]) -> Batch:
        """Make rows that Postgres takes, whatever the bytes are. Implements Sink.prepare."""
        batch = Batch({table: [] for table in TABLES}, {table: [] for table in TABLES}, {table: [] for table in TABLES})
        text, moment = cache(postgres_text), cache(at_ms)  # sources, runs and times: few of a batch are distinct
        for message in messages:
            headers = dict(message_headers(message))
            table = LANDING_TABLES.get(headers.get(HEADER_KIND) or b"", "raw_api_data")
            origin = Origin(message.topic(), message.partition(), message.offset(), message.timestamp()[1])
            row = (
                *origin.coordinates,
                postgres_text(message.key()),
                text(headers.get(HEADER_SOURCE)),
                text(headers.get(HEADER_RUN)),
                message.value(),
                moment(origin.timestamp),
            )
            batch.rows[table].append(row)
            batch.origins[table].append(origin)
            batch.shapes[table].append(source_shape(message, headers, self._datasets[message.topic()]))
        return batch

    async def write(self, batch: Batch) -> Awaitable[None] | None:
        async with self._connection.use() as (connection, new):
            if new:
                await _create_stages(connection)
            if await self._epochs.check(connection, [*chain(*batch.origins.values())]):
                for table, rows in batch.rows.items():
                    rows[:] = map(self._rebased, rows, batch.origins[table])
            async with connection.transaction():
                forgotten = await self._forgotten.open(connection)
                shown: list[tuple[Group, Shape, RawRow]] = []
                for table, raw in batch.rows.items():
                    rows, shapes = self._without_forgotten(forgotten, raw, batch.shapes[table])
                    if rows:
                        landed = await _land(connection, table, rows)
                        shown += _of_new_rows(rows, shapes, landed)
                begun = await drifts.record(connection, observations(shown))
        for drift in begun:
            drift.announce()
        return None

    async def close(self) -> None:
        await self._epochs.close()
        await self._connection.close()

    def _without_forgotten(
        self, forgotten: ForgottenKeys | None, rows: list[RawRow], shapes: list[SourceShape]
    ) -> tuple[list[RawRow], list[SourceShape]]:
        """Those that name no forgotten key: of the others nothing is kept, not even what fields they have."""
        if forgotten is None or not rows:
            return rows, shapes
        names = [self._mentioned(row) for row in rows]
        known = forgotten.among(set().union(*names))
        kept = [number for number, named in enumerate(names) if named.isdisjoint(known)]
        return [rows[number] for number in kept], [shapes[number] for number in kept]

    def _mentioned(self, row: RawRow) -> set[Name]:
        topic, _, _, key, _, _, payload, _ = row
        return mentioned(dataset_named(self._datasets[real_topic(topic)]), key, payload)

    def _rebased(self, row: RawRow, origin: Origin) -> RawRow:
        rebased = self._epochs.rebased(origin)
        return (rebased.topic, rebased.partition, *row[2:])


async def _create_stages(connection: Connection) -> None:
    for table in TABLES:
        await connection.execute(
            f'CREATE TEMP TABLE IF NOT EXISTS "stage_{table}" ON COMMIT DELETE ROWS AS TABLE "{table}" WITH NO DATA'
        )


async def _land(connection: Connection, table: str, rows: list[RawRow]) -> set[Place] | None:
    """Store the rows that are not there yet. Returns where these are; None: all of them were new."""
    await connection.copy_records_to_table(f"stage_{table}", records=rows, columns=COLUMNS)
    done = await connection.execute(
        f'INSERT INTO "{table}" SELECT * FROM "stage_{table}" ORDER BY topic, partition, "offset" '  # noqa: S608
        "ON CONFLICT DO NOTHING"
    )
    if int(done.rpartition(" ")[2]) == len(rows):
        return None
    return {
        (topic, partition, offset)
        for topic, partition, offset in await connection.fetch(
            f'SELECT topic, partition, "offset" FROM "stage_{table}" JOIN "{table}" t '  # noqa: S608
            'USING (topic, partition, "offset") WHERE t.xmin = pg_current_xact_id()::xid'
        )
    }


def _of_new_rows(
    rows: list[RawRow], shapes: list[SourceShape], landed: set[Place] | None
) -> Iterator[tuple[Group, Shape, RawRow]]:
    """The rows that are new, with their sources and shapes, in order of arrival. Takes the places out of `landed`."""
    for row, shape in zip(rows, shapes, strict=True):
        if landed is not None:
            if row[:3] not in landed:
                continue
            landed.remove(row[:3])
        if shape is not None:
            yield *shape, row
