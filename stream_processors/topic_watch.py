"""Ends a worker whose raw topic was deleted and made anew: it would go on at its old position, behind new records."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from confluent_kafka import KafkaException

from runtime.epochs import raw_topics
from runtime.settings import Settings
from runtime.topic_admin import admin_client, topic_ids

WATCH_SECONDS = 5.0


class TopicMadeAnew(Exception):
    """The process must start again, and read the topic from its first record on."""


async def watch_topics(settings: Settings, rewind: Callable[[Collection[str]], Awaitable[None]]) -> None:
    """Look every few seconds, for ever. A broker that is away is for others to tell.

    `rewind` is to commit the first offset of these topics' partitions: a rebalance may have committed the old position
    for the new topic. Raises TopicMadeAnew then.
    """
    admin = admin_client(settings)
    topics = list(raw_topics(settings))
    known: dict[str, str] = {}
    while True:
        try:
            now = await asyncio.to_thread(topic_ids, admin, topics)
        except KafkaException:
            now = known
        if anew := sorted(name for name in known if known[name] != now[name]):
            await rewind(anew)
            raise TopicMadeAnew(f"{', '.join(anew)}: deleted and made anew; starting again from the first record")
        known = now
        await asyncio.sleep(WATCH_SECONDS)
