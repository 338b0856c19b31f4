from typing import NamedTuple

import msgspec

from producers.raw_records import RawHeaders
from producers.source import SourceDescription
from schemas.events import FailedRecord
from schemas.registry import dataset_named
from stream_processors.normalize import RecordNormalizer, Rejected


class Raw(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def test_the_normalizer_rejects_a_marked_record_with_the_producers_reason_and_its_bytes() -> None:
    source = SourceDescription("shop", "csv", dataset_named("records"))
    headers = [
        (name, value if value is None or isinstance(value, bytes) else value.encode())
        for name, value in RawHeaders(source, "run").of(0, "ragged_row;line 3: 1 columns, expected 2")
    ]
    raw = Raw("records.raw", 0, 7, 1, None, b"2\n", headers)
    outcome = RecordNormalizer(source.dataset).normalize(raw, now_ms=5)
    assert isinstance(outcome, Rejected)
    failed = msgspec.json.decode(outcome.value, type=FailedRecord)
    assert (failed.reason, failed.message, failed.payload) == ("ragged_row", "line 3: 1 columns, expected 2", b"2\n")
    assert (failed.source, failed.kind, failed.run, failed.origin.offset) == ("shop", "csv", "run", 7)
