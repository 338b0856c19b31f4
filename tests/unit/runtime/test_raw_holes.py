"""What the batches of a raw partition show of its offsets, against a model of a log, without a broker."""

import struct
from dataclasses import dataclass, field

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.holes import Chunk, Evidence, judge
from runtime.kafka.offset_ranges import OffsetRanges

CONTROL, TRANSACTIONAL = 0x20, 0x10
ABORT, COMMIT = 0, 1


def batch(base: int, offsets: list[int], producer: int = -1, *, attributes: int = 0, key: bytes | None = None) -> bytes:
    """A batch as it lies in a log: the broker has set its base offset."""
    builder = DefaultRecordBatchBuilder(2, 0, int(bool(attributes & TRANSACTIONAL)), producer, 0, 0, 1 << 20)
    for offset in offsets:
        builder.append(offset - base, 1, key, b"value", [])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, base)
    struct.pack_into(">h", built, 21, attributes)
    return bytes(built)


@dataclass
class Log:
    """What lies in a partition, and what of it is a record for who reads committed."""

    batches: list[tuple[int, bytes]] = field(default_factory=list)
    end: int = 0
    records: set[int] = field(default_factory=set)
    empty: set[int] = field(default_factory=set)
    open: dict[int, list[int]] = field(default_factory=dict)
    aborted: list[tuple[int, int, int]] = field(default_factory=list)
    """Producer, first offset, offset of the marker."""

    def append(self, count: int, producer: int | None) -> None:
        offsets = list(range(self.end, self.end + count))
        attributes = 0 if producer is None else TRANSACTIONAL
        self._write(batch(self.end, offsets, -1 if producer is None else producer, attributes=attributes), count)
        if producer is None:
            self.records |= set(offsets)
        else:
            self.open.setdefault(producer, []).extend(offsets)

    def finish(self, producer: int, verdict: int) -> None:
        offsets = self.open.pop(producer, [])
        if verdict == COMMIT:
            self.records |= set(offsets)
        elif offsets:
            self.empty |= set(offsets)
            self.aborted.append((producer, offsets[0], self.end))
        self.empty.add(self.end)
        marker = struct.pack(">HH", 0, verdict)
        self._write(batch(self.end, [self.end], producer, attributes=CONTROL | TRANSACTIONAL, key=marker), 1)

    def compacted(self, left: list[bool]) -> None:
        """A batch of which only some records are left."""
        begin = self.end
        offsets = [begin + number for number, stays in enumerate(left) if stays]
        self.records |= set(offsets)
        if offsets:
            self._write(batch(begin, offsets), offsets[-1] + 1 - begin)
        self.end = begin + len(left)

    def vanish(self, count: int) -> None:
        self.end += count

    def read(self, position: int, batches: int) -> Chunk:
        """Some batches from the one on that holds the position, as a broker answers."""
        found = [data for base, data in self.batches if base + _delta(data) >= position][:batches]
        aborted = [(producer, first) for producer, first, marker in self.aborted if marker >= position]
        return Chunk(self.end, aborted, b"".join(found))

    def _write(self, data: bytes, count: int) -> None:
        self.batches.append((self.end, data))
        self.end += count


def _delta(data: bytes) -> int:
    return int(struct.unpack_from(">i", data, 23)[0])


steps = st.one_of(
    st.tuples(st.just("plain"), st.integers(1, 3)),
    st.tuples(st.just("send"), st.integers(1, 2), st.integers(1, 3)),
    st.tuples(st.just("finish"), st.integers(1, 2), st.sampled_from([ABORT, COMMIT])),
    st.tuples(st.just("compacted"), st.lists(st.booleans(), min_size=1, max_size=4)),
    st.tuples(st.just("vanish"), st.integers(1, 3)),
)


@given(st.lists(steps, max_size=25), st.integers(1, 4), st.data())
def test_every_offset_is_a_record_or_empty_or_has_vanished(
    steps: list[tuple[object, ...]], size: int, data: st.DataObject
) -> None:
    log = Log()
    for step in steps:
        match step:
            case ("plain", int(count)):
                log.append(count, None)
            case ("send", int(producer), int(count)):
                log.append(count, producer)
            case ("finish", int(producer), int(verdict)):
                log.finish(producer, verdict)
            case ("compacted", list(left)):
                log.compacted(left)
            case ("vanish", int(count)):
                log.vanish(count)
    for producer in list(log.open):
        log.finish(producer, COMMIT)
    start = position = data.draw(st.integers(0, log.end))
    evidence = Evidence()
    while (after := judge(log.read(position, size), position, evidence)) > position:
        position = after
    seen = set(range(start, position))
    assert evidence.read == OffsetRanges([(start, position)])
    assert set(_offsets(evidence.records)) & seen == log.records & seen
    assert set(_offsets(evidence.empty)) & seen == log.empty & seen
    assert log.records | log.empty <= set(range(position)), "all that lies there was read"


def test_a_batch_that_an_answer_cuts_off_is_left_for_the_next_one() -> None:
    evidence, whole = Evidence(), batch(0, [0, 1])
    assert judge(Chunk(4, (), whole + batch(2, [2, 3])[:-1]), 0, evidence) == 2
    assert judge(Chunk(4, (), whole[:30]), 0, Evidence()) == 0
    assert evidence.read == OffsetRanges([(0, 2)])


def _offsets(ranges: OffsetRanges) -> list[int]:
    return [offset for start, end in ranges for offset in range(start, end)]
