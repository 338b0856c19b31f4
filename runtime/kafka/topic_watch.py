"""Ends a consumer whose topic was deleted and recreated: it would go on at its old position, behind new records."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from confluent_kafka import KafkaException

from runtime.kafka.topic_admin import admin_client, topic_ids
from runtime.settings import Settings

WATCH_SECONDS = 5.0


class TopicRecreated(Exception):
    """The process must start again, and read the topic from its first record on."""


async def watch_topics(
    settings: Settings, topics: Sequence[str], rewind: Callable[[Collection[str]], Awaitable[None]]
) -> None:
    """Look at these physical topics every few seconds, for ever. A broker that is away is for others to tell.

    `rewind` is to commit the first offset of the partitions of those that it is given: a rebalance may have committed
    the old position for the new topic. Raises TopicRecreated then.
    """
    admin = admin_client(settings)
    known: dict[str, str] = {}
    while True:
        try:
            now = await asyncio.to_thread(topic_ids, admin, topics)
        except KafkaException:
            now = known
        if recreated := sorted(name for name in known if known[name] != now[name]):
            await rewind(recreated)
            raise TopicRecreated(f"{', '.join(recreated)}: deleted and recreated; starting again from the first record")
        known = now
        await asyncio.sleep(WATCH_SECONDS)
