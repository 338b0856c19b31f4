"""Reads offsets back from their partition to learn which of them carry a record. An offset is not a record.

Evidence is positive: an offset carries none because the broker shows the batch that takes it, a transaction's marker or
a part of an aborted transaction. Where no batch shows up, something has been there and has vanished (compaction, a lost
log segment), and nobody can tell what it was. Clients for records pass over all three alike, so batches are read here:
their headers only, which costs microseconds a batch.
"""

import asyncio
from collections.abc import Collection
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError as ClientError
from aiokafka.errors import KafkaTimeoutError, NoError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, KafkaException

from runtime.kafka.clients import open_aiokafka
from runtime.kafka.offset_ranges import Evidence, OffsetRanges
from runtime.kafka.record_batches import LenientBatch, whole_batches
from runtime.kafka.topic_admin import Place
from runtime.settings import Settings

FETCH_BYTES = 4_194_304
SMALL_FETCH_BYTES = 262_144
"""Fetched for a hole of fewer offsets than SMALL_HOLE: what lies behind it is often not asked for."""

SMALL_HOLE = 2_000
ANSWER_SECONDS = 10.0
READ_COMMITTED = 1
EMPTY_ANSWERS = 3
"""The broker gives at least one batch if there is any below the last stable offset; one empty answer may be chance."""

PAUSE_SECONDS = 0.1

_TRANSACTIONAL, _CONTROL = 0x10, 0x20


class Chunk(NamedTuple):
    """An answer of the broker's."""

    stable: int
    """The last stable offset: what lies at or behind it is not to be read yet."""
    aborted: Collection[tuple[int, int]]
    """Producer and first offset of the aborted transactions among the batches."""
    batches: bytes


class HoleReader:
    """One client outside of any group: it commits nothing and disturbs nobody. Connects on first use; close it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AIOKafkaClient | None = None

    async def read(self, place: Place, holes: OffsetRanges, most: int | None = None) -> Evidence:
        """Read these offsets of one partition, as far as they are stable and the log still has them.

        Reads the holes in order and jumps from one to the next; stops after `most` offsets. Raises KafkaException.
        """
        evidence = Evidence()
        position, empty_answers = 0, 0
        try:
            while (hole := holes.first_from(position)) is not None:
                position = hole[0]
                chunk = await self._fetch(
                    place, position, SMALL_FETCH_BYTES if hole[1] - position < SMALL_HOLE else FETCH_BYTES
                )
                if chunk is None or chunk.stable <= position:
                    break
                after = judge(chunk, position, evidence)
                if after == position:
                    empty_answers += 1
                    if empty_answers < EMPTY_ANSWERS:
                        await asyncio.sleep(PAUSE_SECONDS)
                        continue
                    after = min(hole[1], chunk.stable)
                    evidence.read.add_range(position, after)
                position, empty_answers = after, 0
                if most is not None and len(evidence.read) >= most:
                    break
        except (ClientError, OSError) as error:
            await self.close()
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, str(error))) from error  # noqa: SLF001
        return evidence

    async def close(self) -> None:
        """Close the client. Idempotent; it connects again when needed."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _fetch(self, place: Place, position: int, most_bytes: int) -> Chunk | None:
        """The batches from a position on; None if the log does not reach there, or no more."""
        request: Any = FetchRequest(0, 1, most_bytes, READ_COMMITTED, [(place[0], [(place[1], position, most_bytes)])])
        now = asyncio.get_running_loop().time
        deadline = now() + ANSWER_SECONDS
        while True:
            client = await self._opened()
            leader = client.cluster.leader_for_partition(TopicPartition(*place))
            error: Any = None
            if leader is not None and leader != -1:
                [(_, [(_, code, _, stable, *_, aborted, batches)])] = without_replica(
                    await client.send(leader, request)
                )
                error = for_code(code)
                if error is NoError:
                    return Chunk(stable, aborted or (), batches or b"")
                if error is OffsetOutOfRangeError:
                    return None
            if now() > deadline:
                raise error() if error else KafkaTimeoutError(f"{place[0]}/{place[1]} has no leader")
            await client.force_metadata_update()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _opened(self) -> AIOKafkaClient:
        if self._client is None:
            self._client = await open_aiokafka(
                self._settings, client_id="headrace-holes", request_timeout_ms=int(ANSWER_SECONDS * 1000)
            )
        return self._client


def judge(chunk: Chunk, position: int, evidence: Evidence) -> int:
    """Add to the evidence what a chunk shows from a position on; returns the position behind it. Pure but for that.

    Follows the clients' rule for aborted transactions: a producer's batches are aborted from the first offset that the
    broker names up to its next abort marker.
    """
    pending = sorted(chunk.aborted, key=lambda transaction: transaction[1], reverse=True)
    aborting: set[int] = set()
    for base, after, attributes, producer, count, batch in whole_batches(chunk.batches):
        while pending and pending[-1][1] <= base:
            aborting.add(pending.pop()[0])
        if attributes & _CONTROL and producer in aborting and _is_abort(batch):
            aborting.discard(producer)
        if after <= position:
            continue
        start = max(base, position)
        if count == 0:
            pass  # compaction has left the frame of a batch
        elif attributes & _CONTROL or (attributes & _TRANSACTIONAL and producer in aborting):
            evidence.empty.add_range(start, after)
        elif count == after - base:
            evidence.records.add_range(start, after)
        else:
            for record in LenientBatch(batch):
                if record.offset >= start:
                    evidence.records.add(record.offset)
        evidence.read.add_range(position, after)
        position = after
    return position


def _is_abort(batch: bytes) -> bool:
    record = next(iter(DefaultRecordBatch(batch)), None)
    return record is not None and ControlRecord.parse(record.key) == ABORT_MARKER


def without_replica(response: Any) -> Any:
    """The topics of an answer, each partition without the replica to prefer that versions from 11 on name."""
    if response.API_VERSION < 11:
        return response.topics
    return [(topic, [(*row[:-2], row[-1]) for row in rows]) for topic, rows in response.topics]
