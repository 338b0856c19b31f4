"""Raw records that are normalized anew under their own coordinates, in the process that was asked, and sent on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.sources import DeclaredSources
from runtime.errors import DeliveryFailed
from runtime.kafka.clients import delivery_error, producer_config, reason
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import HEADER_MAPPING
from schemas.field_reading import encode_mapping
from services.failures.raw_records import Headers

DELIVERY_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class RawRecord:
    """A raw record with its coordinates. `timestamp` is the broker's, in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Normalizing(Protocol):
    """What the normalizer makes of a record: whether it is clean, and what is to be published, key and value."""

    def __call__(self, dataset: Dataset, record: RawRecord, now_ms: int) -> tuple[bool, bytes | None, bytes]: ...


class Made(NamedTuple):
    """What came of a record. `topic` is the physical name; the partition is that of the raw record."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


def mappings_of(sources: DeclaredSources) -> dict[str, bytes | None]:
    """How each source's records are to be read, as its block says now."""
    return {name: encode_mapping(source.description.field_readings()) for name, source in sources.items()}


def remapped(headers: Headers, source: str | None, mappings: Mapping[str, bytes | None]) -> Headers:
    """The headers with the mapping that the source has there; unchanged where it is not among them. Pure."""
    if source is None or source not in mappings:
        return headers
    mapping = mappings[source]
    others = tuple(header for header in headers if header[0] != HEADER_MAPPING)
    return (*others, (HEADER_MAPPING, mapping)) if mapping else others


def new_producer(settings: Settings) -> Producer:
    """The producer for `send`."""
    return Producer(producer_config(settings, log_level=0, **{"delivery.timeout.ms": DELIVERY_TIMEOUT_MS}))


def send(settings: Settings, producer: Producer, made: Sequence[Made], remedy: str) -> None:
    """Blocking, until each has its delivery report. Raises DeliveryFailed, with the remedy."""
    errors: list[str] = []

    def report(error: KafkaError | None, message: Message) -> None:
        if (trouble := delivery_error(error, message)) is not None:
            errors.append(reason(trouble))

    for topic, partition, key, value in made:
        while True:
            try:
                producer.produce(topic, value, key, partition, report)
                break
            except BufferError:
                producer.poll(0.1)
            except KafkaException as error:
                errors.append(reason(error))
                break
    producer.flush()
    if errors:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} did not confirm {len(errors)} of {len(made)} "
            f"records ({errors[0]}); {remedy}"
        )
