"""Looks at what waits: every partition has its turn, and what cannot be read says nothing."""

from types import SimpleNamespace
from typing import Any, cast

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from monitoring.gaps import REQUEST_BYTES, Gaps
from monitoring.samples import GroupSample, PartitionSample, Sample

SENT_MS = 1_700_000_000_000
CLUSTER = cast("ClusterMetadata", SimpleNamespace(leader_for_partition=lambda _: 1))


def batch(offset: int, size: int, timestamp: int = SENT_MS) -> bytes:
    """A batch of one record of so many bytes."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 21)
    builder.append(0, timestamp=timestamp, key=None, value=bytes(size), headers=[])
    return offset.to_bytes(8, "big") + bytes(builder.build())[8:]


class Broker:
    """A leader of partitions with these batches, one offset each; it fills its answers in order of the request."""

    def __init__(self, *partitions: list[bytes]) -> None:
        self.partitions = partitions
        self.sent = 0

    async def send(self, _: int, request: Any) -> Any:
        left = REQUEST_BYTES
        topics = []
        for topic, places in request._topics:
            rows: list[Any] = []
            for partition, position, most in places:
                stored, data = self.partitions[partition], b""
                while position < len(stored) and len(data) + len(stored[position]) <= min(most, left):
                    data += stored[position]
                    position += 1
                left -= len(data)
                self.sent += len(data)
                rows.append((partition, 0, len(stored), len(stored), [], data))
            topics.append((topic, rows))
        return SimpleNamespace(API_VERSION=4, topics=topics)


async def looked(gaps: Gaps, broker: Broker) -> list[PartitionSample]:
    """The partitions after a look, for a group that has committed nothing."""
    rows = [PartitionSample(number, None, 0, len(one), len(one)) for number, one in enumerate(broker.partitions)]
    client = cast("AIOKafkaClient", broker)
    sample = await gaps.look(client, CLUSTER, Sample(1.0, {"g": GroupSample("Empty", {"t": rows})}))
    assert sample.groups is not None
    return sample.groups["g"].topics["t"]


async def test_what_does_not_fit_is_read_once_and_leaves_room_for_the_partitions_behind_it() -> None:
    broker, gaps = Broker(*[[batch(offset, 200_000) for offset in range(20)]] * 6), Gaps()
    await looked(gaps, broker)
    assert all(row.waits_since == SENT_MS / 1000 for row in await looked(gaps, broker))
    sent = broker.sent
    await looked(gaps, broker)
    assert broker.sent == sent


async def test_a_record_without_a_time_has_no_age() -> None:
    [row] = await looked(Gaps(), Broker([batch(0, 10, timestamp=-1)]))
    assert (row.waits_since, row.waiting) == (None, 1)


async def test_a_batch_of_an_older_format_or_a_damaged_one_hides_no_other_partition() -> None:
    old = LegacyRecordBatchBuilder(magic=1, compression_type=1, batch_size=1 << 20)
    old.append(0, timestamp=SENT_MS, key=None, value=bytes(100))
    damaged = bytearray(batch(0, 10))
    damaged[61] ^= 0x10  # the length of the record
    rows = await looked(Gaps(), Broker([bytes(old.build())], [bytes(damaged)], [batch(0, 10)]))
    assert [(row.waits_since, row.waiting) for row in rows] == [(None, None), (None, None), (SENT_MS / 1000, 1)]
