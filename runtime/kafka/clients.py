"""Configurations of confluent-kafka clients, and an end for calls that may have none.

Keys that carry a guarantee are set last, so no caller can weaken them.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime.settings import Settings

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

ClientConfig = dict[str, Any]

MAX_MESSAGE_BYTES = 10_485_760
"""Largest record that clients and topics take: room for a 5 MB value in base64 inside a failure's envelope."""

MAX_PAYLOAD_BYTES = 7_000_000
"""Bytes that a failure keeps of a rejected value: base64 makes 4 bytes of 3, and the whole must fit a message."""


SESSION_TIMEOUT_MS = 10_000
"""A consumer that is gone longer than this loses its partitions to the others of its group."""

READ_COMMITTED: ClientConfig = {"isolation.level": "read_committed"}
"""For every consumer that reads records. It is librdkafka's default, and no setting of ours is to rest on a default."""

# librdkafka prints a line per connection attempt at its level 3; processes log once per state change instead.
QUIET = 2


def reason(error: KafkaException | KafkaError) -> str:
    """Reason of an error, in librdkafka's words but without its wrapping."""
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


WITHOUT_OFFSET = KafkaError(
    KafkaError._INCONSISTENT,  # noqa: SLF001 (librdkafka's own codes begin with an underscore)
    "reported as written, but without an offset",
)


def delivery_error(error: KafkaError | None, message: Message) -> KafkaError | None:
    """Problem that a delivery report tells; None if the broker has it.

    A report without error and without offset is no confirmation: such records were found missing, see
    `producer_config`.
    """
    return error or (WITHOUT_OFFSET if message.offset() is None else None)


def refusal(error: KafkaError, message: Message) -> str:
    """Why the broker did not take a message, with its topic; where somebody has made that too small, the way out."""
    told = f"{message.topic()}: {error.str()}"
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        told += "; `headrace setup` gives the topic the max.message.bytes that it is declared with"
    return told


def connection_config(settings: Settings) -> ClientConfig:
    """The beginning of every configuration of librdkafka's: where Kafka is and how to get in. Contains secrets."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        **settings.kafka_security.client_config(),
        "log_level": QUIET,
    }


def aiokafka_connection(settings: Settings) -> dict[str, Any]:
    """The same for aiokafka's clients. Contains secrets. Raises OSError for a file that is no certificate."""
    return {"bootstrap_servers": settings.kafka_bootstrap_servers, **settings.kafka_security.aiokafka_config()}


async def open_aiokafka(settings: Settings, **options: Any) -> "AIOKafkaClient":
    """A client of aiokafka's that has found the cluster, for requests that librdkafka does not offer; close it.

    The options are those of AIOKafkaClient. Raises aiokafka's KafkaError when no broker answers, OSError for a file of
    the settings that is no certificate.
    """
    from aiokafka.client import AIOKafkaClient  # here, since most processes never need one

    client = AIOKafkaClient(**aiokafka_connection(settings), **options)
    try:
        await client.bootstrap()
    except BaseException:
        await client.close()
        raise
    return client


def producer_config(settings: Settings, **overrides: Any) -> ClientConfig:
    """An idempotent producer that waits for all in-sync replicas and partitions as Java clients do.

    librdkafka's own partitioner is CRC32; murmur2 is Java's and aiokafka's, so one key lands in one partition whoever
    sends it. The queue is bounded in bytes (kbytes) because a count bounds no memory.
    """
    return {
        **connection_config(settings),
        "linger.ms": 5,
        "compression.type": "lz4",
        "queue.buffering.max.kbytes": 65_536,
        "queue.buffering.max.messages": 200_000,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "delivery.timeout.ms": 120_000,
        **overrides,
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        # A broker that takes a partition over may refuse the first records of a producer and take those after them, if
        # both are on their way. librdkafka then confirms the first ones too, without an offset, and they are lost. It
        # costs nothing: full batches of one partition go one by one anyway (librdkafka 2.16, 300,000 records/s).
        "max.in.flight.requests.per.connection": 1,
        "acks": "all",
    }


def consumer_config(settings: Settings, group: str, **overrides: Any) -> ClientConfig:
    """A consumer that commits only when told to, with static membership so that a restart resumes at once.

    It reads committed: what a transaction has aborted, or not committed yet, is no record.

    The classic group protocol, because only it lets a static member that was killed take its place again at once
    (0.2 s measured). Under KIP-848 the broker refuses the instance id until the dead member's session has timed out
    (45 s), and librdkafka calls that fatal.
    """
    return {
        **connection_config(settings),
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": 2_000,
        "group.instance.id": f"{settings.named(group)}-{settings.worker_id}",
        "auto.offset.reset": "earliest",
        # What waits to be polled. A partition that is over the bound is asked for again so much later, not a second.
        "queued.max.messages.kbytes": 8_192,
        "fetch.queue.backoff.ms": 20,
        "fetch.message.max.bytes": 1_048_576,
        # A fetch is answered as soon as there is anything. One that finds nothing keeps those that were over the bound
        # waiting for so long: less than it takes to work off what is queued.
        "fetch.wait.max.ms": 200,
        # New partitions are found within this time, and so are the topics of a consumer that began while a broker was
        # away: librdkafka can lose its first question for them, and would ask again after 5 minutes only.
        "topic.metadata.refresh.interval.ms": 10_000,
        **overrides,
        "group.id": settings.named(group),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        **READ_COMMITTED,
    }


# librdkafka (2.16) never answers some commits that are under way while the group's coordinator moves, and a consumer
# with such a commit never closes. So both calls get a daemon thread, which is left behind after a deadline.

COMMIT_SECONDS = 30.0
"""When a coordinator is away, librdkafka says so some 10 s (the session timeout) after the commit; later than this
nothing comes any more."""

CLOSE_SECONDS = 5.0


def commit_within(consumer: Consumer, places: Sequence[TopicPartition]) -> None:
    """Commit these offsets. Blocking, for COMMIT_SECONDS at most; meanwhile the consumer does nothing else.

    Raises KafkaException if the coordinator does not have all of them, or has not answered in that time: the commit may
    happen yet, and the consumer is of no use any more.
    """
    answers: list[list[KafkaError]] = []

    def commit() -> None:
        try:
            done = consumer.commit(offsets=list(places), asynchronous=False)
        except KafkaException as error:
            answers.append([error.args[0]])
        else:
            answers.append([place.error for place in done or () if place.error is not None])

    thread = threading.Thread(target=commit, name="commit", daemon=True)
    thread.start()
    thread.join(COMMIT_SECONDS)
    if not answers:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer to a commit within {COMMIT_SECONDS:g} s"))  # noqa: SLF001
    for error in answers[0]:
        raise KafkaException(error)


def close_consumer(consumer: Consumer, seconds: float = CLOSE_SECONDS) -> None:
    """Close it, and wait for that no longer than this. Blocking."""
    thread = threading.Thread(target=consumer.close, name="close", daemon=True)
    thread.start()
    thread.join(seconds)
