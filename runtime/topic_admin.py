"""Creates the pipeline's topics and reads their ends. Blocking; call it from a thread in async code."""

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from runtime.kafka_clients import MAX_MESSAGE_BYTES, QUIET
from runtime.settings import Settings
from schemas.topics import Topic, all_topics

REQUEST_TIMEOUT_SECONDS = 10.0


def _is_settling(error: BaseException) -> bool:
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return isinstance(cause, KafkaError) and (cause.code() in SETTLING or cause.retriable())


SETTLING = {KafkaError.NOT_COORDINATOR, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
"""What a broker answers for a moment after a topic was created, a group first heard of, or a leader elected."""

until_settled = retry(
    retry=retry_if_exception(_is_settling),
    wait=wait_random_exponential(multiplier=0.1, max=1.0),
    stop=stop_after_delay(REQUEST_TIMEOUT_SECONDS),
    reraise=True,
)
"""Decorates a read that is repeated while the broker is settling. Blocking."""


def admin_client(settings: Settings) -> AdminClient:
    """An admin client; connects on first use."""
    return AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})


def ensure_topics(settings: Settings) -> list[str]:
    """Create the topics that do not exist yet; returns their physical names. Idempotent, safe to run in parallel.

    Raises KafkaException when the broker refuses or cannot be reached.
    """
    admin = admin_client(settings)  # kept until the answers are in: its end would cancel them
    existing = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    missing = [_new_topic(topic, settings) for topic in all_topics() if settings.named(topic.name) not in existing]
    futures = admin.create_topics(missing, request_timeout=REQUEST_TIMEOUT_SECONDS) if missing else {}
    created = []
    for name, future in futures.items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return sorted(created)


def partition_counts(settings: Settings) -> dict[str, int]:
    """How many partitions each topic has, by physical name. Raises KafkaException when the broker cannot be reached."""
    topics = admin_client(settings).list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}


def end_offsets(settings: Settings, topics: list[str]) -> dict[TopicPartition, int]:
    """The end offset (next to be written) of every partition of those physical topics; missing topics are left out."""
    admin = admin_client(settings)
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    wanted = {
        TopicPartition(name, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for name in topics
        if name in metadata
        for partition in metadata[name].partitions
    }
    return list_offsets(admin, wanted)


@until_settled
def list_offsets(admin: AdminClient, wanted: dict[TopicPartition, OffsetSpec]) -> dict[TopicPartition, int]:
    """The wanted offset of each partition. Raises KafkaException."""
    if not wanted:
        return {}
    futures = admin.list_offsets(wanted, request_timeout=REQUEST_TIMEOUT_SECONDS)
    return {partition: future.result().offset for partition, future in futures.items()}


def _new_topic(topic: Topic, settings: Settings) -> NewTopic:
    return NewTopic(
        settings.named(topic.name),
        num_partitions=settings.topic_partitions,
        replication_factor=settings.topic_replication,
        config={
            "retention.ms": str(settings.topic_retention_hours * 3_600_000),
            "message.timestamp.type": "LogAppendTime" if topic.log_append_time else "CreateTime",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "min.insync.replicas": str(max(1, settings.topic_replication - 1)),
        },
    )
