"""A message on a terminal: readable, bounded, and harmless whatever it holds."""

import datetime

import msgspec
import pytest
from rich.console import Console

from commands.topics import LONGEST_SHOWN, closing_lines, message_text
from runtime.kafka.browse import TopicMessage
from runtime.printable import printable
from runtime.settings import Settings
from services.topics.peek import LookedRange, Peeked, PeekQuestion, WrongPeek, _start
from services.topics.shown import LONGEST_VALUE, ShownMessage, shown

SETTINGS = Settings()


def message(value: bytes | None, topic: str = "customers.raw", **more: object) -> ShownMessage:
    fields: dict[str, object] = {"timestamp": 1_700_000_000_000, "key": b"CUST001", "headers": ()} | more
    return shown(SETTINGS, topic, TopicMessage(topic, 3, 41, value=value, **fields))  # type: ignore[arg-type]


def on_a_terminal(one: ShownMessage) -> str:
    console = Console(force_terminal=True, color_system=None, width=200)
    with console.capture() as captured:
        console.print(message_text(one))
    return captured.get()


def test_json_is_shown_as_it_is_but_over_several_lines() -> None:
    one = message(b'{"customer_id":"CUST001","price":1.10}', headers=(("headrace-source", b"shop"), ("empty", None)))
    assert (one.kind, one.bytes, one.truncated, one.remark) == ("json", 38, False, None)
    assert msgspec.json.encode(one.value) == b'{"customer_id":"CUST001","price":1.10}'
    text = on_a_terminal(one)
    assert "customers.raw/3 @ 41  2023-11-14 22:13:20.000Z  CUST001" in text
    assert '    "price": 1.10\n' in text
    assert "headrace-source: shop" in text
    assert "empty: -" in text


def test_text_and_bytes_are_told_apart() -> None:
    assert (message(b"a;b").kind, message(b"a;b").value) == ("text", "a;b")
    assert (message(b"\xff\x00").kind, message(b"\xff\x00").value) == ("binary", "ff00")
    assert "2 bytes that are no text, in hexadecimal:\n  ff00" in on_a_terminal(message(b"\xff\x00"))
    assert message(b"[" * 100_000).kind == "text", "deeper than any reader goes"


def test_tombstones_deletes_and_the_unreadable_are_named() -> None:
    assert message(None).remark == "a tombstone: deletes the record of its key"
    problem = message(b"x", headers=(("headrace-problem", b"bad_row;3 columns"),)).remark
    assert problem == "unreadable for its producer: bad_row;3 columns"
    assert "no CleanRecord" in (message(b"{}", "customers.clean").remark or "")
    event = b'{"key":"CUST001","op":"deleted","version":7}'
    assert message(event, "customers.changed").remark == "a delete"
    assert message(b"{}", "somebody.elses").remark is None


def test_the_rejected_bytes_of_a_failure_are_shown_as_text() -> None:
    from schemas.topics import all_topics

    [failures] = [topic for topic in all_topics() if topic.name == "failures"]
    assert message(failures.example, "failures").payload == "CUST001;Ada"


def test_a_long_value_is_cut_and_says_so() -> None:
    one = message("ä".encode() * LONGEST_VALUE)
    assert (one.kind, one.truncated, len(one.value)) == ("text", True, LONGEST_VALUE // 2)
    text = on_a_terminal(one)
    assert f"… {2 * LONGEST_VALUE:,} bytes in all; --json shows more" in text
    assert len(text) < LONGEST_SHOWN + 500


@pytest.mark.parametrize("evil", ["\x1b[2J\x1b]0;owned\x07", "a\u202eb", "\x9b31m", "\r\x08", "\u2028"])
def test_nothing_in_a_message_moves_the_terminal(evil: str) -> None:
    header = ("h" + evil, evil.encode())
    for value in (evil.encode(), msgspec.json.encode({"a": evil})):
        text = on_a_terminal(message(value, key=evil.encode(), headers=(header,)))
        assert not set(evil) & set(text) - set("[2J]0;owned31mabab")
    assert printable(evil).isprintable()


def test_where_to_begin_is_read_from_text() -> None:
    def start(text: str) -> object:
        return _start(PeekQuestion("t", start=text))

    assert start("-10") == (10, None, None)
    assert start("0") == (None, 0, None)
    assert start("2024-01-31T00:00:00Z") == (None, None, datetime.datetime(2024, 1, 31, tzinfo=datetime.UTC))
    for wrong in ("-0", "-1000", "soon", "9" * 19, "9" * 5000, "١", ""):
        with pytest.raises(WrongPeek, match=r"expected|offset|newest") as error:
            start(wrong)
        assert len(str(error.value)) < 200


def test_the_last_lines_say_how_far_was_looked() -> None:
    whole = Peeked("customers.raw", "C1", [], [LookedRange(2, 40, 90, 40, 90)], None)
    assert list(closing_lines(whole)) == [
        "0 messages of the key C1; looked at offsets 40-89 of 40-89 in partition 2",
        "That is all that the partition of this key keeps; retention has taken what was before offset 40.",
    ]
    part = Peeked("customers.raw", "C1", [], [LookedRange(2, 60, 90, 40, 90)], "5 s were over: offsets …")
    assert list(closing_lines(part))[1].startswith("It stopped early: 5 s were over")
    empty = Peeked("customers.raw", None, [], [LookedRange(0, 0, 0, 0, 0)], None)
    assert list(closing_lines(empty)) == ["customers.raw is empty"]


@pytest.mark.parametrize(("ms", "year"), [(-1, 1970), (253_402_300_800_000, 9999), (1_700_000_000_000_000, 9999)])
def test_a_time_that_no_calendar_has_is_shown_as_the_next_that_it_has(ms: int, year: int) -> None:
    assert message(b"{}", timestamp=ms).timestamp.year == year
