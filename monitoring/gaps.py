"""Looks into the gaps between the groups' positions and the ends: since when does a record wait, and how many do.

Offsets are no count of records: markers of transactions, aborted and compacted records have offsets too. So a gap is
read, within a budget of bytes; what did not fit is left unknown, and the lag stays an upper bound there.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError as ClientError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import TopicPartition

from monitoring.samples import PartitionSample, Sample
from runtime.kafka.holes import READ_COMMITTED, Chunk, judge, without_replica
from runtime.kafka.offset_ranges import Evidence
from runtime.kafka.record_batches import whole_batches
from runtime.kafka.topic_admin import Place

PARTITION_BYTES = 1_048_576
"""Fetched of one gap: the largest batch of most producers."""

REQUEST_BYTES = 4_194_304
ROUNDS = 4
"""Requests to each broker in one look. A request has one position of a partition: groups that stand apart take more."""


FEW = 10_000
"""Records of a gap that is read again, to its end, whenever that has moved."""

READ_UNCOMMITTED = 0

UNREADABLE = (ClientError, ValueError)
"""Raised for a batch that is damaged or packed in an unknown way: it says nothing, and hides no other partition."""


class Gap(NamedTuple):
    """A read part of the log, from a position on."""

    read_to: int
    waiting: int
    """Records in [position, read_to)."""
    waits_since: float | None
    """Timestamp of the first of them, in seconds since the epoch; None without any."""
    whole: bool
    """Nothing was left to be read behind `read_to`: all of it fitted into an answer."""


Spot = tuple[str, int, int]
"""Topic, partition and position."""


class Gaps:
    """Remembers what it has read of positions where groups still stand, so that nothing is read twice for them."""

    def __init__(self) -> None:
        self._known: dict[Spot, Gap] = {}
        self._held: dict[Spot, float | None] = {}

    async def look(
        self, client: AIOKafkaClient, cluster: ClusterMetadata, sample: Sample, *, records: bool = True
    ) -> Sample:
        """The sample with what could be learnt of its gaps. Raises aiokafka's errors.

        Without `records` that is only since when transactions hold a partition.
        """
        groups = sample.groups or {}
        ends: dict[Spot, int] = {}
        for group in groups.values():
            for topic, rows in group.topics.items():
                ends.update({(topic, row.partition, row.position): row.end for row in rows if row.lag})
        self._known = {spot: gap for spot, gap in self._known.items() if spot in ends}
        unread = [spot for spot, end in ends.items() if records and self._is_to_be_read(spot, end)]
        for wanted in _rounds(unread)[:ROUNDS]:
            for place, chunk in (await _fetch(client, cluster, wanted, READ_COMMITTED)).items():
                with contextlib.suppress(*UNREADABLE):
                    if gap := seen(chunk, wanted[place]):
                        self._known[*place, wanted[place]] = gap
        await self._look_at_transactions(client, cluster, sample)
        return msgspec.structs.replace(
            sample,
            groups={
                name: msgspec.structs.replace(
                    group,
                    topics={topic: [self._told(topic, row) for row in rows] for topic, rows in group.topics.items()},
                )
                for name, group in groups.items()
            },
        )

    def _is_to_be_read(self, spot: Spot, end: int) -> bool:
        gap = self._known.get(spot)
        if gap is not None and end < gap.read_to:
            return True  # the topic was made again, and that position means another record now
        # Once it is known since when a record waits, more of a gap that did not fit is not worth its bytes: it would be
        # read from the same position again, and leave none of them to the partitions behind it.
        return gap is None or (gap.read_to < end and (not gap.waiting or (gap.whole and gap.waiting < FEW)))

    def _told(self, topic: str, row: PartitionSample) -> PartitionSample:
        if row.top > row.end:
            row = msgspec.structs.replace(row, held_since=self._held.get((topic, row.partition, row.end)))
        if not row.lag:
            return msgspec.structs.replace(row, waiting=0)
        gap = self._known.get((topic, row.partition, row.position))
        if gap is None:
            return row
        whole = gap.read_to >= row.end
        return msgspec.structs.replace(row, waiting=gap.waiting if whole else None, waits_since=gap.waits_since)

    async def _look_at_transactions(self, client: AIOKafkaClient, cluster: ClusterMetadata, sample: Sample) -> None:
        """Learn since when the transactions are open that hold a partition: by the time of their first record."""
        holds = {
            (topic, row.partition): row.end
            for group in (sample.groups or {}).values()
            for topic, rows in group.topics.items()
            for row in rows
            if row.top > row.end
        }
        self._held = {spot: since for spot, since in self._held.items() if holds.get(spot[:2]) == spot[2]}
        wanted = {place: begin for place, begin in holds.items() if (*place, begin) not in self._held}
        if wanted:
            # The one look of ours at what is not committed: at its time only.
            for place, chunk in (await _fetch(client, cluster, wanted, READ_UNCOMMITTED)).items():
                self._held[*place, wanted[place]] = None
                with contextlib.suppress(*UNREADABLE):
                    self._held[*place, wanted[place]] = _time_of(chunk.batches, wanted[place])


async def _fetch(
    client: AIOKafkaClient, cluster: ClusterMetadata, wanted: Mapping[Place, int], isolation: int
) -> dict[Place, Chunk]:
    """Read what lies at and behind these positions, one request to each leader. What a leader refuses is left out."""
    asked: dict[int, dict[str, list[tuple[int, int, int]]]] = {}
    for (topic, partition), position in wanted.items():
        leader = cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader is not None and leader >= 0:
            asked.setdefault(leader, {}).setdefault(topic, []).append((partition, position, PARTITION_BYTES))
    found = {}
    for leader, topics in asked.items():
        request: Any = FetchRequest(0, 1, REQUEST_BYTES, isolation, list(topics.items()))
        for topic, rows in without_replica(await client.send(leader, request)):
            for partition, error, _, stable, *_, aborted, data in rows:
                if not error:
                    found[topic, partition] = Chunk(stable, aborted or (), data or b"")
    return found


def seen(chunk: Chunk, position: int) -> Gap | None:
    """Evidence of an answer of the broker's from a position on; None if it shows nothing of it. Pure."""
    evidence = Evidence()
    after = judge(chunk, position, evidence)
    if after == position:
        return None
    first = evidence.records.first_from(position)
    since = None if first is None else _time_of(chunk.batches, first[0])
    return Gap(after, len(evidence.records), since, after >= chunk.stable)


def _time_of(data: bytes, offset: int) -> float | None:
    for base, after, *_, batch in whole_batches(data):
        if base <= offset < after:
            # The iteration opens the batch; it goes no further than to the record that is wanted.
            found = next((record for record in DefaultRecordBatch(batch) if record.offset == offset), None)
            # -1 is a producer that gave none, and no record of the year 1969.
            return None if found is None or (found.timestamp or 0) <= 0 else found.timestamp / 1000
    return None


def _rounds(spots: list[Spot]) -> list[dict[Place, int]]:
    """The spots in rounds of one per partition. Pure."""
    rounds: list[dict[Place, int]] = []
    for topic, partition, position in sorted(spots):
        place = (topic, partition)
        free = next((one for one in rounds if place not in one), None)
        if free is None:
            rounds.append({place: position})
        else:
            free[place] = position
    return rounds
