"""Ends a worker whose raw topic was deleted and made anew: it would wait at its old position for offsets to come."""

import asyncio

from confluent_kafka import KafkaException

from runtime.epochs import raw_topics
from runtime.settings import Settings
from runtime.topic_admin import admin_client, topic_ids

WATCH_SECONDS = 5.0


class TopicMadeAnew(Exception):
    """The process must start again: the broker has forgotten the group's offsets with the topic, so it reads all."""


async def watch_topics(settings: Settings) -> None:
    """Look every few seconds, for ever. Raises TopicMadeAnew. A broker that is away is for others to tell."""
    admin = admin_client(settings)
    topics = list(raw_topics(settings))
    known: dict[str, str] = {}
    while True:
        try:
            now = await asyncio.to_thread(topic_ids, admin, topics)
        except KafkaException:
            now = known
        if anew := sorted(name for name in known if known[name] != now[name]):
            raise TopicMadeAnew(f"{', '.join(anew)}: deleted and made anew; starting again from the first record")
        known = now
        await asyncio.sleep(WATCH_SECONDS)
