"""Batches of records as they lie in a partition, and as aiokafka is to read them.

aiokafka decodes the names of headers as UTF-8, and raises where one is no text. Such records have no headers here (see
`runtime/kafka/message_headers.py`). Only the rest of a fetch that has one is read by `LenientBatch`, since aiokafka's
compiled batches are some 20 times as fast.
"""

import struct
from collections.abc import Iterator
from typing import Any, Self

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

# BaseOffset, Length, PartitionLeaderEpoch, Magic, CRC, Attributes, LastOffsetDelta, FirstTimestamp, MaxTimestamp,
# ProducerId, ProducerEpoch, BaseSequence, Records: the head of a batch, format 2.
_HEAD = struct.Struct(">qiibIhiqqqhii")
_LENGTH_COVERS_FROM = 12
_MAGIC = 2

_NO_TEXT = "\ufffd"


def whole_batches(data: bytes) -> Iterator[tuple[int, int, int, int, int, bytes]]:
    """Base offset, the offset behind it, attributes, producer, number of records and bytes of each whole batch.

    Ends before a batch of an older format, which topics of long ago may still have on brokers before Kafka 4.
    """
    at, end = 0, len(data)
    while at + _HEAD.size <= end:
        base, length, _, magic, _, attributes, delta, _, _, producer, _, _, count = _HEAD.unpack_from(data, at)
        after = at + _LENGTH_COVERS_FROM + length
        if after > end or magic != _MAGIC:
            return  # the answer ends within it, or it has another head
        yield base, base + delta + 1, attributes, producer, count, data[at:after]
        at = after


class _AnyText(bytearray):
    """Bytes of which every part is text."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _AnyText(found) if isinstance(at, slice) else found

    def decode(self, *_: Any, **__: Any) -> str:
        return super().decode(errors="replace")


class LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # final for its authors
    """A batch that can be read whatever the names of its headers are."""

    _buffer: bytearray

    def __iter__(self) -> Self:
        super().__iter__()
        self._buffer = _AnyText(self._buffer)
        return self

    def __next__(self) -> Any:
        record = super().__next__()
        if any(_NO_TEXT in name for name, _ in record.headers):
            record.headers.clear()
        return record


class _Fetched(MemoryRecords):  # type: ignore[misc]
    """The batches of one partition in a fetch, with their bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _Rest:
    """The same from an offset on, to be read leniently."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._batches = [batch for _, after, *_, batch in whole_batches(data) if after > offset]

    def has_next(self) -> bool:
        return bool(self._batches)

    def next_batch(self) -> LenientBatch:
        return LenientBatch(self._batches.pop(0))


class _Records(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one partition in a fetch."""

    _records: Any

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except UnicodeDecodeError:
            # What had been read stands before `next_fetch_offset`; of what follows nothing is skipped.
            self._records = _Rest(self._records.data, self.next_fetch_offset)
            self._records_iterator = self._unpack_records()
            return super().__next__()


def read_leniently() -> None:
    """Have all consumers of aiokafka in this process read so. Idempotent."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = _Fetched, _Records
