"""Takes static members out of a consumer group for good.

A static member that stops keeps its place, so that its restart moves no partition. One that will not come back would
keep its partitions unread until its session times out. Neither librdkafka nor aiokafka offers the request that ends
this (LeaveGroup by instance id, KIP-345, version 3 of the protocol), so it is declared here.
"""

import asyncio
from collections.abc import Collection, Sequence

import structlog
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    NoError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from runtime.kafka.clients import open_aiokafka
from runtime.kafka.topic_admin import admin_client, partition_counts
from runtime.settings import Settings
from schemas.topics import all_topics

TIMEOUT_SECONDS = 10.0

log = structlog.get_logger()

UNKNOWN_MEMBER = ""
"""The member id of an operator, who knows the instance only."""

UNKNOWN_MEMBER_ID = 25
"""The broker's answer for a member that is not in the group, or has left it meanwhile."""


class _LeaveGroupResponse(Response):  # type: ignore[misc] # untyped library
    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "members",
            Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")), ("error_code", Int16)),
        ),
    )


class _LeaveGroupStruct(RequestStruct):  # type: ignore[misc] # untyped library
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = _LeaveGroupResponse
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("members", Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")))),
    )


class _LeaveGroup(Request[_LeaveGroupStruct]):  # type: ignore[misc] # untyped library
    API_KEY = 13

    def __init__(self, group: str, members: list[tuple[str, str]]) -> None:
        self._group = group
        self._members = members

    def build(self, request_struct_class: type[_LeaveGroupStruct]) -> _LeaveGroupStruct:
        return request_struct_class(self._group, self._members)


async def remove_members(settings: Settings, group: str, worker_ids: Sequence[str]) -> None:
    """Take the workers with these ids out of the group (its logical name); the others get their partitions at once.

    Idempotent. Raises aiokafka's KafkaError when the broker refuses, TimeoutError when it does not answer in time.
    """
    name = settings.named(group)
    members = [(UNKNOWN_MEMBER, f"{name}-{worker}") for worker in worker_ids]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        client = await open_aiokafka(settings)
        try:
            while not await _leave(client, name, members):  # noqa: ASYNC110 (a broker tells nobody when it is ready)
                await asyncio.sleep(0.2)
        finally:
            await client.close()


async def start_over(settings: Settings, group: str, topics: Collection[str]) -> None:
    """Take this process out of the group, and put the group back to the first record of these physical topics.

    For topics that were away for a while. Whoever comes back within its session is only handed the partitions that it
    had, and theirs may not be among them; nor can their position be committed by a member without them. While others
    are in the group the broker refuses the second part: they have the partitions, and rewind them. Logs what fails.
    """
    name = settings.named(group)
    try:
        await remove_members(settings, group, [settings.worker_id])
        counts = await asyncio.to_thread(partition_counts, settings)
        first = [TopicPartition(topic, number, 0) for topic in topics for number in range(counts.get(topic, 0))]
        admin = admin_client(settings)
        altered = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(name, first)])
        await asyncio.to_thread(altered[name].result, TIMEOUT_SECONDS)
    except (KafkaError, KafkaException, OSError, TimeoutError) as error:
        log.warning("not_started_over", group=group, topics=sorted(topics), reason=repr(error))


def end_memberships(settings: Settings) -> None:
    """Take all members out of all groups: everybody joins again, and partitions are dealt out again.

    A static member that comes back within its session would only be handed the partitions that it had. Blocking.
    Raises KafkaException, and what `remove_members` raises.
    """
    groups = sorted({group for topic in all_topics() for group in topic.read_by})
    admin = admin_client(settings)
    described = admin.describe_consumer_groups([settings.named(group) for group in groups])
    for group in groups:
        prefix = f"{settings.named(group)}-"
        members = described[settings.named(group)].result().members
        workers = [str(member.group_instance_id).removeprefix(prefix) for member in members]
        if workers:
            asyncio.run(remove_members(settings, group, workers))


async def _leave(client: AIOKafkaClient, group: str, members: list[tuple[str, str]]) -> bool:
    """True once it is done; False while the group's coordinator is being elected."""
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        await client.ready(node, group=ConnectionGroup.COORDINATION)
        answer = await client.send(node, _LeaveGroup(group, members), group=ConnectionGroup.COORDINATION)
    except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
        return False
    codes = [answer.error_code, *(code for _, _, code in answer.members)]
    for code in codes:
        error: type[KafkaError] = for_code(code)
        if error in (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
            return False
        if error is not NoError and code != UNKNOWN_MEMBER_ID:
            raise error(f"the group {group} keeps its members {members}")
    return True
