"""What the normalizer makes of a record, without sending it. Pure."""

from dataclasses import dataclass
from functools import cache

import msgspec

from schemas.dataset import Dataset
from schemas.errors import FieldProblem
from schemas.events import FailedRecord
from stream_processors.normalize import Normalized, RawRecord, RecordNormalizer

_decode = msgspec.json.Decoder(FailedRecord).decode


@dataclass(frozen=True)
class Trial:
    """`key` is the key's text where the record is valid; otherwise `reason` is its code and `problems` its fields'."""

    key: str | None
    reason: str | None = None
    message: str = ""
    problems: tuple[FieldProblem, ...] = ()


@dataclass(frozen=True)
class _Record:
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    topic: str = ""
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


def try_record(
    dataset: Dataset, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...]
) -> Trial:
    """The verdict on a raw record of the dataset."""
    outcome = _normalizer(dataset).normalize(_Record(key, value, headers), now_ms=0)
    if isinstance(outcome, Normalized):
        return Trial(outcome.key.decode())
    failed = _decode(outcome.value)
    return Trial(None, failed.reason, failed.message, failed.problems)


def normalize_anew(dataset: Dataset, record: RawRecord, now_ms: int) -> tuple[bool, bytes | None, bytes]:
    """What comes of a raw record now: whether it is clean, key and value to publish. `now_ms` dates a failure."""
    outcome = _normalizer(dataset).normalize(record, now_ms)
    return isinstance(outcome, Normalized), outcome.key, outcome.value


@cache
def _normalizer(dataset: Dataset) -> RecordNormalizer:
    return RecordNormalizer(dataset)
