"""A topic that is deleted and created again."""

from collections.abc import Callable

from confluent_kafka.admin import AdminClient, NewTopic

from runtime.kafka.clients import QUIET
from runtime.kafka.topic_admin import ensure_topics, incarnations
from runtime.settings import Settings
from tests.waiting import eventually


def recreate(
    settings: Settings, topic: str, away_until: Callable[[], object] = lambda: True, *, by_hand: bool = False
) -> None:
    """As `kafka-topics --delete` and, once `away_until` holds, the next `headrace setup` do; `by_hand`: or `--create`,
    with the broker's own defaults.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})
    before = incarnations(settings, [topic])
    admin.delete_topics([topic])[topic].result()
    eventually(away_until, what="the topic has been away for long enough")

    def made() -> bool:
        if not by_hand:
            return topic in ensure_topics(settings)
        return admin.create_topics([NewTopic(topic, settings.topic_partitions, 1)])[topic].result() is None

    eventually(made, what="the topic is recreated")

    def another() -> bool:
        now = incarnations(settings, [topic])  # without it for a moment: a broker hears of it after the controller
        return topic in now and now[topic].topic_id != before[topic].topic_id

    eventually(another, what="the broker knows it")
