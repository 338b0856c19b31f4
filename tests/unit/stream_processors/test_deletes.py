"""A record without a value deletes the one that its key names."""

import hashlib

import msgspec
import pytest

from schemas.events import DELETED, CleanRecord, FailedRecord
from schemas.registry import dataset_named
from stream_processors.normalize import Normalized, RecordNormalizer, Rejected
from tests.unit.stream_processors.raw_records import RawRecord


def normalized(dataset: str, key: bytes | None) -> Normalized | Rejected:
    return RecordNormalizer(dataset_named(dataset)).normalize(RawRecord(value=None, key=key), 0)


@pytest.mark.parametrize(
    ("dataset", "key", "expected"),
    [
        ("customers", b"CUST001", "CUST001"),
        ("customers", b"  CUST001 ", "CUST001"),
        ("customers", "\ufeffCUST\u200b001".encode(), "CUST001"),
        ("customers", b"x" * 51, hashlib.sha256(b"x" * 51).hexdigest()[:50]),
        ("records", b"titanic:7", "titanic:7"),
    ],
)
def test_a_delete_names_its_record_in_normal_form(dataset: str, key: bytes, expected: str) -> None:
    outcome = normalized(dataset, key)
    assert isinstance(outcome, Normalized)
    clean = msgspec.json.decode(outcome.value, type=CleanRecord)
    assert (outcome.key.decode(), clean.key, bytes(clean.data)) == (expected, expected, DELETED)


@pytest.mark.parametrize(
    ("dataset", "key", "reason"),
    [
        ("customers", None, "delete_without_key"),
        ("customers", b"", "delete_without_key"),
        ("customers", b"   ", "delete_key_form"),
        ("customers", b"\xff", "delete_key_form"),
        ("records", b"titanic", "delete_key_form"),
        ("records", b":7", "delete_key_form"),
    ],
)
def test_a_delete_of_no_possible_record_is_a_failure(dataset: str, key: bytes | None, reason: str) -> None:
    outcome = normalized(dataset, key)
    assert isinstance(outcome, Rejected)
    failed = msgspec.json.decode(outcome.value, type=FailedRecord)
    assert (failed.reason, failed.payload) == (reason, None)
