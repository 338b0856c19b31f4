"""Raw records that are normalized anew under their own coordinates, in the process that was asked, and sent on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import KafkaError, Producer

from producers.sources import DeclaredSources
from runtime.errors import DeliveryFailed
from runtime.kafka import confirmed
from runtime.kafka.clients import reason
from runtime.kafka.confirmed import Outgoing, patient_producer
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import HEADER_MAPPING
from schemas.field_reading import encode_mapping
from services.failures.originals import Headers

DELIVERY_SECONDS = 30.0


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
    return patient_producer(settings, DELIVERY_SECONDS)


def send(settings: Settings, producer: Producer, made: Sequence[Outgoing], remedy: str) -> None:
    """Blocking, until each has its delivery report. Raises DeliveryFailed, with the remedy."""
    errors = [report for report in confirmed.send(producer, made) if isinstance(report, KafkaError)]
    if errors:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} did not confirm {len(errors)} of {len(made)} "
            f"records ({reason(errors[0])}); {remedy}"
        )
