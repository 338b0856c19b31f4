"""Batches in which the name of a header is no text, read by aiokafka."""

import struct

import pytest
from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition

from runtime.kafka.record_batches import LenientBatch, read_leniently
from tests.foreign_batches import Record, batch

ODD = [(b"headrace-source", b"shop"), (b"\xff\xfe", b"1")]
GOOD = [(b"headrace-source", b"shop"), (b"\xc3\xa4", None)]


def in_a_log(*batches: list[Record], compression: int = 0) -> bytes:
    """Batches as they lie in a partition, one behind the other."""
    log, offset = b"", 0
    for records in batches:
        log += struct.pack(">q", offset) + batch(records, compression)[8:]
        offset += len(records)
    return log


def fetched(data: bytes, position: int = 0) -> "fetcher.PartitionRecords":
    """What aiokafka's fetcher makes of an answer of the broker's."""
    records = fetcher.MemoryRecords(data)
    return fetcher.PartitionRecords(TopicPartition("t", 0), records, [], position, None, None, True, 1)


@pytest.fixture(autouse=True)
def _leniently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)
    monkeypatch.setattr(fetcher, "PartitionRecords", fetcher.PartitionRecords)
    read_leniently()


@pytest.mark.parametrize("compression", range(5))
@pytest.mark.parametrize("position", [0, 2, 4, 5])
def test_every_record_is_read_once_and_only_those_with_such_a_name_lose_their_headers(
    position: int, compression: int
) -> None:
    records = [Record(b"%d" % n, b"v" * n, ODD if n in {1, 4, 5} else GOOD) for n in range(9)]
    log = in_a_log(records[:3], records[3:7], records[7:], compression=compression)
    found = list(fetched(log, position))
    assert [record.offset for record in found] == list(range(position, 9))
    assert [(record.key, record.value) for record in found] == [(one.key, one.value) for one in records[position:]]
    kept = (("headrace-source", b"shop"), ("ä", None))
    assert [record.headers for record in found] == [() if n in {1, 4, 5} else kept for n in range(position, 9)]
    assert {type(part) for record in found for part in (record.key, record.value)} == {bytes}


def test_what_follows_is_fetched_from_behind_the_last_record() -> None:
    records = fetched(in_a_log([Record(b"a", b"1", ODD)], [Record(b"b", b"2", GOOD)]))
    assert [(next(records).offset, records.next_fetch_offset) for _ in range(2)] == [(0, 1), (1, 2)]
    with pytest.raises(StopIteration):
        next(records)


def test_the_offsets_of_such_a_batch_can_be_told() -> None:
    assert [record.offset for record in LenientBatch(batch([Record(b"a", None, ODD), Record(None, b"", ODD)]))] == [
        0,
        1,
    ]
