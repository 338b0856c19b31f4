"""Reads all consumer groups of the broker, ours and anybody's: a few requests to each broker, however many there are.

Committed, not read: a worker that reads on but is stuck before its commit would look healthy by its own account. Last
stable: what lies behind the beginning of an open transaction nobody can read yet, so nobody is behind with it.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaConnectionError, NoError, for_code
from aiokafka.errors import KafkaError as ClientError
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, KafkaException

from monitoring.gaps import Gaps
from monitoring.group_requests import DescribeGroups, FetchOffsets, ListGroups
from monitoring.lag import our_groups
from monitoring.samples import GroupSample, PartitionSample, Sample
from runtime.kafka.clients import open_aiokafka
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS, Place
from runtime.settings import Settings

CONSUMERS = ("consumer", "")
"""Protocols of groups that read topics: members that share them, and clients that only commit. Others are Connect's,
schema registries' and the like."""

_UUID = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""The broker puts one behind the name that a member gave itself."""

AGAIN_SECONDS = 0.2
SETTLING_SECONDS = 2.0
"""So long a new topic may be without leaders."""

EARLIEST, LATEST = -2, -1
UNCOMMITTED, COMMITTED = 0, 1
NO_REPLICA = -1


class GroupsReader:
    """One connection per broker, outside of any group: it commits nothing and disturbs nobody.

    Connects on first use, and again after an error; close it. For one event loop. `ours` are groups that are reported
    also before they first commit, with the topics that they read, all by physical name.
    """

    def __init__(self, settings: Settings, ours: Mapping[str, Iterable[str]] | None = None) -> None:
        self._settings = settings
        self._ours = our_groups(settings) if ours is None else ours
        self._client: AIOKafkaClient | None = None
        self._gaps = Gaps()
        self.unread: list[Place] = []
        """Partitions that the latest sample lacks, since no leader answered for them."""
        self.topics: set[str] = set()
        """All that exist, as of the latest sample."""

    async def read(self, *, records: bool = True) -> Sample:
        """Read all groups now. Without `records`, nobody looks at those that wait.

        Raises KafkaException when a broker does not answer within REQUEST_TIMEOUT_SECONDS.
        """
        was_open = self._client is not None
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                try:
                    return await self._settled(records)
                except (ClientError, OSError):
                    if not was_open:
                        raise
                # The connection may be one to a broker that has gone since: the others are to be asked.
                await self.close()
                return await self._settled(records)
        except (ClientError, OSError) as error:
            await self.close()
            said = ", ".join(map(str, error.args)) or type(error).__name__
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, said)) from error  # noqa: SLF001
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections. Idempotent; it connects again when needed."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _settled(self, records: bool) -> Sample:
        """Read again for a moment while coordinators and leaders are moving."""
        known, deadline = self.unread, time.monotonic() + SETTLING_SECONDS
        while True:
            try:
                sample = await self._read(records)
            except ClientError as error:
                # One that cannot be reached is told at once.
                if not error.retriable or isinstance(error, KafkaConnectionError):
                    raise
            else:
                # A partition that had no leader the last time either is left out.
                if set(self.unread) <= set(known) or time.monotonic() > deadline:
                    return sample
            await asyncio.sleep(AGAIN_SECONDS)

    async def _read(self, records: bool) -> Sample:
        client = await self._opened()
        cluster = await client.fetch_all_metadata()
        found = await self._groups(client, [broker.nodeId for broker in cluster.brokers()])
        committed = found.committed
        topics = self.topics = set(cluster.topics(exclude_internal_topics=False))
        places = self._places(cluster, committed, topics)
        # Ends are read after the commits, so a commit in between makes no lag look smaller than it was; and the last
        # stable ones after the high watermarks, so that what comes in between is not taken for held.
        begins, tops = await asyncio.gather(
            self._offsets(client, cluster, places, EARLIEST, UNCOMMITTED),
            self._offsets(client, cluster, places, LATEST, UNCOMMITTED),
        )
        ends = await self._offsets(client, cluster, places, LATEST, COMMITTED)
        self.unread = [place for place in places if not (place in begins and place in tops and place in ends)]
        groups = {}
        for name in sorted({*committed, *self._ours}):
            mine, members = committed.get(name, {}), found.members.get(name, {})
            wanted = set(mine) | {place for place in places if place[0] in self._ours.get(name, ())}
            rows: dict[str, list[PartitionSample]] = {}
            for place in sorted(wanted):
                if place in begins and place in tops and place in ends:
                    offsets = mine.get(place), begins[place], ends[place], tops[place]
                    row = PartitionSample(place[1], *offsets, member=members.get(place))
                    rows.setdefault(place[0], []).append(row)
            gone = sorted({topic for topic, _ in mine} - topics)
            if rows or gone:
                groups[name] = GroupSample(found.states.get(name, "Dead"), rows, gone)
        return await self._gaps.look(client, cluster, Sample(time.time(), groups), records=records)

    async def _groups(self, client: AIOKafkaClient, brokers: list[int]) -> "_Groups":
        """The groups' states, commits and members. Each broker lists the groups that it coordinates."""
        groups = _Groups({}, {}, {})

        async def ask(broker: int) -> None:
            listed = await client.send(broker, ListGroups())
            _raise_for(listed.error_code)
            found = {group: state for group, protocol, state, _ in listed.groups if protocol in CONSUMERS}
            groups.states.update(found)
            if not found:
                return
            fetched = await client.send(broker, FetchOffsets(list(found)))
            for group, topics, code, _ in fetched.groups:
                if code and group not in self._ours:
                    # Not ours to read, or on its way to another broker: no reason to see none at all.
                    groups.states.pop(group, None)
                    continue
                _raise_for(code)
                groups.committed[group] = {
                    (topic, partition): offset
                    for topic, rows, _ in topics or ()
                    for partition, offset, *_, error, _ in rows
                    if offset >= 0 and not error
                }
            described = await client.send(broker, DescribeGroups([g for g, s in found.items() if s == "Stable"]))
            for error, group, _, _, _, members, *_ in described.groups:
                if not error:  # groups of the newer protocol are described in another way
                    groups.members[group] = members_of(members)

        await asyncio.gather(*map(ask, brokers))
        return groups

    def _places(
        self, cluster: ClusterMetadata, committed: Mapping[str, Mapping[Place, int]], topics: set[str]
    ) -> list[Place]:
        found = {place for rows in committed.values() for place in rows if place[0] in topics}
        for topic in {topic for mine in self._ours.values() for topic in mine} & topics:
            found |= {(topic, partition) for partition in cluster.partitions_for_topic(topic) or ()}
        return sorted(found)

    async def _offsets(
        self, client: AIOKafkaClient, cluster: ClusterMetadata, places: Iterable[Place], which: int, isolation: int
    ) -> dict[Place, int]:
        """An offset of each partition, one request to each leader. Those that are without a leader now are left out."""
        asked: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for topic, partition in places:
            leader = cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is not None and leader >= 0:
                asked.setdefault(leader, {}).setdefault(topic, []).append((partition, which))
        answers = await asyncio.gather(
            *(
                client.send(leader, OffsetRequest(NO_REPLICA, isolation, list(topics.items())))
                for leader, topics in asked.items()
            )
        )
        found: dict[Place, int] = {}
        for answer in answers:
            for topic, rows in answer.topics:
                for partition, error, _, offset, *_ in rows:
                    if not error and offset >= 0:
                        found[topic, partition] = offset
        return found

    async def _opened(self) -> AIOKafkaClient:
        if self._client is None:
            options: dict[str, Any] = {
                "client_id": "headrace-lag",
                "request_timeout_ms": int(REQUEST_TIMEOUT_SECONDS * 1000),
            }
            try:
                self._client = await open_aiokafka(self._settings, **options)
            except KafkaConnectionError as error:
                raise KafkaConnectionError("no broker answers") from error
        return self._client


class _Groups(NamedTuple):
    """The answers of brokers about groups, by the names of these."""

    states: dict[str, str]
    committed: dict[str, dict[Place, int]]
    members: dict[str, dict[Place, str]]


def members_of(members: Iterable[tuple[str, str, str, bytes, bytes]]) -> dict[Place, str]:
    """The member that each partition is assigned to, and its host. Pure.

    `members`: id, client, host, metadata and assignment, as DescribeGroups answers. An assignment is what the group's
    leader made of it; one that cannot be read is left out.
    """
    found: dict[Place, str] = {}
    for member, _, host, _, assignment in members:
        if assignment:
            name = f"{_UUID.sub('', member)} {host.removeprefix('/')}"
            with contextlib.suppress(ValueError, TypeError):
                places = ConsumerProtocol.ASSIGNMENT.decode(assignment).partitions()
                found.update(dict.fromkeys(places, name))
    return found


def _raise_for(code: int) -> None:
    error: Any = for_code(code)
    if error is not NoError:
        raise error
