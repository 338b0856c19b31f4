"""Scales the running stack: its processes, and then the consumer groups that they have left."""

import asyncio
from collections.abc import Mapping

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from local_stack.scaling import Scaled, scale
from local_stack.state_folder import StateFolder
from local_stack.steps import Steps
from monitoring.lag import group_topics
from runtime.kafka.clients import SESSION_TIMEOUT_MS, reason
from runtime.kafka.group_members import remove_members
from runtime.kafka.topic_admin import partition_counts
from runtime.settings import Settings


def scale_stack(settings: Settings, wanted: Mapping[str, int], steps: Steps) -> tuple[Scaled, list[str]]:
    """Run so many workers of each role; the change, and warnings. Blocking (seconds). Raises StackError."""
    done = scale(StateFolder.at(settings.home), wanted, steps)
    return done, [*_leave_groups(settings, done), *_idle(settings, done.counts)]


def _leave_groups(settings: Settings, done: Scaled) -> list[str]:
    warnings = []
    for group, workers in done.removed_workers.items():
        try:
            asyncio.run(remove_members(settings, group, workers))
        except (KafkaError, OSError, TimeoutError) as error:
            seconds = SESSION_TIMEOUT_MS // 1000
            warnings.append(
                f"Kafka did not take the removed workers out of the group {group} ({error!r}); "
                f"it gives their partitions to the others within {seconds} s."
            )
    return warnings


def _idle(settings: Settings, counts: dict[str, int]) -> list[str]:
    """A warning for each role with more workers than can have work."""
    topics = group_topics(settings)
    try:
        partitions = partition_counts(settings)
    except KafkaException as error:
        return [f"Kafka does not say how many partitions there are: {reason(error)}"]
    warnings = []
    for role, count in counts.items():
        found = [partitions.get(settings.named(topic), 0) for topic in topics[role]]
        # Faust gives partition n of every topic to the same worker; librdkafka spreads all partitions of all topics.
        busy = max(found) if role == "normalizer" else sum(found)
        if count > busy:
            warnings.append(
                f"{count - busy} of {count} {role} workers will idle: there are {busy} partitions to share "
                "(TOPIC_PARTITIONS, when topics are created)."
            )
    return warnings
