"""Normalizes raw records again, in this process, and sends them: before a replay, of held records, of stored ones."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import msgspec
from confluent_kafka import KafkaError, Producer

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import reason
from runtime.kafka.confirmed import Outgoing, patient_producer, send
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.errors import FieldProblem
from schemas.events import HEADER_MAPPING, FailedRecord
from schemas.masking import masked_message, masked_problems
from stream_processors.normalize import Normalized, RecordNormalizer, Rejected

Headers = tuple[tuple[str, bytes | None], ...]

DELIVERY_SECONDS = 30.0

_decode_failed = msgspec.json.Decoder(FailedRecord).decode


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


class Verdict(NamedTuple):
    """The normalizer's verdict: the key of a valid record, or the reason code and each field's problem.

    Of personal fields nothing is quoted: refusals and notes are made of it, which stay.
    """

    key: str | None
    reason: str = ""
    message: str = ""
    problems: tuple[FieldProblem, ...] = ()


def normalize(dataset: Dataset, record: RawRecord, now_ms: int) -> Normalized | Rejected:
    """The clean record or the failure that the normalizer makes of a raw record now. `now_ms` dates a failure. Pure."""
    return _normalizer(dataset).normalize(record, now_ms)


def verdict_on(dataset: Dataset, record: RawRecord) -> Verdict:
    """The normalizer's verdict on a raw record, without sending anything. Pure."""
    outcome = normalize(dataset, record, now_ms=0)
    if isinstance(outcome, Normalized):
        return Verdict(outcome.key.decode())
    failed = _decode_failed(outcome.value)
    problems = [msgspec.structs.asdict(problem) for problem in failed.problems]
    masked = tuple(FieldProblem(**problem) for problem in masked_problems(dataset, problems))
    return Verdict(None, failed.reason, masked_message(dataset, failed.message, problems), masked)


def remapped(headers: Headers, source: str | None, mappings: Mapping[str, bytes | None]) -> Headers:
    """The headers with the mapping that the source has there; unchanged where it is not among them. Pure."""
    if source is None or source not in mappings:
        return headers
    mapping = mappings[source]
    others = tuple(header for header in headers if header[0] != HEADER_MAPPING)
    return (*others, (HEADER_MAPPING, mapping)) if mapping else others


async def new_producer(settings: Settings) -> Producer:
    """A connected producer for `send_all` that gives up after DELIVERY_SECONDS."""
    return await asyncio.to_thread(patient_producer, settings, DELIVERY_SECONDS)


async def send_all(settings: Settings, producer: Producer, messages: Sequence[Outgoing], remedy: str) -> None:
    """Return when the broker has confirmed all messages. Raises DeliveryFailed, with the remedy, if it has not."""
    answers = await asyncio.to_thread(send, producer, messages)
    if errors := [reason(answer) for answer in answers if isinstance(answer, KafkaError)]:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} did not confirm {len(errors)} of {len(messages)} "
            f"records ({errors[0]}); {remedy}"
        )


@cache
def _normalizer(dataset: Dataset) -> RecordNormalizer:
    return RecordNormalizer(dataset)
