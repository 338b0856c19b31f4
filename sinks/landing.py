"""`headrace sink landing`: *.raw → raw_csv_data (CSV rows) and raw_api_data (all else), bytes untouched."""

from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from itertools import chain

from runtime.errors import Backpressure
from runtime.settings import Settings
from schemas.events import HEADER_KIND, HEADER_RUN, HEADER_SOURCE, Origin
from schemas.registry import ingested_datasets
from sinks.epoch_watch import EpochWatch
from sinks.postgres.connection import Connection, SinkConnection
from sinks.postgres.schema import setup_schema
from sinks.postgres.verdicts import STORE, in_words, is_outage
from sinks.sink import Message

TABLES = ("raw_api_data", "raw_csv_data")
COLUMNS = ("topic", "partition", "offset", "key", "source_name", "run_id", "payload", "received_at")

LandedRow = tuple[str, int, int, str | None, str | None, str | None, bytes | None, datetime]
Batch = dict[str, list[LandedRow]]


class LandingSink:
    """Implements Sink. A record that is there already stays as it is."""

    name = "landing"
    group = "sink-landing"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = SinkConnection(settings)
        self._epochs = EpochWatch(settings)

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(dataset.raw_topic for dataset in ingested_datasets())

    async def setup(self) -> None:
        await setup_schema(self._settings)

    def prepare(self, messages: Sequence[Message]) -> Batch:
        batch: Batch = {table: [] for table in TABLES}
        for message in messages:
            table, row = landed_row(message)
            batch[table].append(row)
        return batch

    async def write(self, batch: Batch) -> Awaitable[None] | None:
        try:
            connection, new = await self._connection.open()
            if new:
                await _create_stages(connection)
            if await self._epochs.look(connection, map(_origin, chain(*batch.values()))):
                for rows in batch.values():
                    rows[:] = [self._rebased(row) for row in rows]
            async with connection.transaction():
                for table, rows in batch.items():
                    if rows:
                        await _land(connection, table, rows)
        except Exception as error:
            self._connection.discard()
            if is_outage(error):
                raise Backpressure(STORE, in_words(error)) from error
            raise
        return None

    async def close(self) -> None:
        await self._connection.close()

    def _rebased(self, row: LandedRow) -> LandedRow:
        origin = self._epochs.rebased(_origin(row))
        return (origin.topic, origin.partition, *row[2:])


def _origin(row: LandedRow) -> Origin:
    topic, partition, offset, *_, received_at = row
    return Origin(topic, partition, offset, round(received_at.timestamp() * 1000))


def landed_row(message: Message) -> tuple[str, LandedRow]:
    """The table and row of a raw record. Pure. Whatever the bytes are, the row is one that Postgres takes."""
    headers = dict(message.headers() or ())
    table = "raw_csv_data" if headers.get(HEADER_KIND) == b"csv" else "raw_api_data"
    return table, (
        message.topic(),
        message.partition(),
        message.offset(),
        _text(message.key()),
        _text(headers.get(HEADER_SOURCE)),
        _text(headers.get(HEADER_RUN)),
        message.value(),
        datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
    )


def _text(value: bytes | None) -> str | None:
    # A foreign producer's key may be any bytes; Postgres takes neither broken UTF-8 nor NUL in text.
    return None if value is None else value.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")


async def _create_stages(connection: Connection) -> None:
    for table in TABLES:
        await connection.execute(
            f'CREATE TEMP TABLE IF NOT EXISTS "stage_{table}" ON COMMIT DELETE ROWS AS TABLE "{table}" WITH NO DATA'
        )


async def _land(connection: Connection, table: str, rows: list[LandedRow]) -> None:
    await connection.copy_records_to_table(f"stage_{table}", records=rows, columns=COLUMNS)
    await connection.execute(
        f'INSERT INTO "{table}" SELECT * FROM "stage_{table}" ORDER BY topic, partition, "offset" '  # noqa: S608
        "ON CONFLICT DO NOTHING"
    )
