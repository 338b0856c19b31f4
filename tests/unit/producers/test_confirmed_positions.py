import random

from hypothesis import given
from hypothesis import strategies as st

from producers.checkpointing import ConfirmedPositions, SentBatch, merged
from producers.source import SourceBatch, SourceRecord
from stores.checkpoints import Page, Position


def batch(records: int, at: int | None) -> SourceBatch:
    position = None if at is None else Position({"at": at})
    return SourceBatch([SourceRecord(b"{}", None)] * records, None, position)


def confirm(sent: SentBatch) -> None:
    while sent.left:
        sent.confirmed()


sizes = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12)


@given(sizes=sizes, order=st.randoms(use_true_random=False))
def test_a_position_is_given_out_when_every_record_up_to_it_is_confirmed_and_never_before(
    sizes: list[tuple[int, bool]], order: random.Random
) -> None:
    positions = ConfirmedPositions()
    sent = [positions.sending(batch(size, at if has else None)) for at, (size, has) in enumerate(sizes)]
    open_records = [at for at, (size, _) in enumerate(sizes) for _ in range(size)]
    order.shuffle(open_records)
    reached = -1
    while True:
        first_open = min(open_records, default=len(sizes))
        expected = max((at for at, (_, has) in enumerate(sizes[:first_open]) if has), default=-1)
        position = positions.take()
        assert (position.at or {})["at"] == expected if position else expected == reached
        reached = expected
        if not open_records:
            return
        sent[open_records.pop()].confirmed()


def page(number: int | None, *entries: tuple[int, int], etag: str | None = None) -> Page:
    return Page(number, etag, None, b"".join(k.to_bytes(8, "little") + c.to_bytes(8, "little") for k, c in entries))


def test_a_position_that_could_not_be_saved_is_saved_with_the_next_one() -> None:
    positions = ConfirmedPositions()
    for number in (1, 2):
        sent = positions.sending(SourceBatch([], None, Position({"page": number}, (page(number, (number, 7)),))))
        assert not sent.left
        if number == 1:
            first = positions.take()
            assert first is not None
            positions.put_back(first)
    assert positions.take() == Position({"page": 2}, (page(1, (1, 7)), page(2, (2, 7))))
    assert positions.take() is None


def test_a_repeated_page_keeps_its_later_content_and_order() -> None:
    earlier = Position({"n": 1}, (page(1, (1, 1)), page(2, (2, 2))))
    later = Position(None, (page(1, (1, 3)),))
    assert merged(earlier, later) == Position({"n": 1}, (page(2, (2, 2)), page(1, (1, 3))))


def test_the_end_of_a_complete_reading_drops_the_pages_after_it() -> None:
    earlier = Position({"n": 1}, (page(1), page(2), page(3)))
    assert merged(earlier, Position({"n": 2}, end=3)) == Position({"n": 2}, (page(1), page(2)), 3)


def test_a_revoked_key_is_removed_from_every_unsaved_position() -> None:
    positions = ConfirmedPositions()
    confirm(positions.sending(SourceBatch([], None, Position({"n": 1}, (page(1, (1, 5), (2, 6), etag="x"),)))))
    waiting = positions.sending(
        SourceBatch([SourceRecord(b"{}", None)], None, Position({"n": 2}, (page(2, (1, 5), (3, 7)), page(3, (4, 8)))))
    )
    positions.revoke([page(None, (1, 0))])
    assert positions.take() == Position({"n": 1}, (page(1, (2, 6)),))
    confirm(waiting)
    assert positions.take() == Position({"n": 2}, (page(2, (3, 7)), page(3, (4, 8))))
