import asyncio
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from producers.api.pages import MOST_EMPTY_PAGES, ApiPage, ApiPages, PageContent, Pagination
from producers.api.sent_records import SentRecords
from producers.http.fetch import Fetcher
from producers.http.headers import retry_after_seconds
from producers.json_parts import NotSplit
from producers.source import SourceFailed

NOW = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30),
        ("Thursday, 01-Jan-26 12:00:30 GMT", 30),
        ("Thu Jan  1 12:00:30 2026", 30),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Thu, 01 Jan 2026 12:00:00 +99999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 251_635_118_339),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


def test_records_in_an_envelope_are_kept_byte_for_byte() -> None:
    page = Pagination().read(b'{"data": [ {"a" : 1.10},{"b":"\\u00e9"} , 7 ], "total_pages": 3, "x": {}}')
    assert page.records == [b'{"a" : 1.10}', b'{"b":"\\u00e9"}', b"7"]
    assert page.total_pages == 3


@pytest.mark.parametrize(("total", "pages"), [("null", None), ("0", None), ("-1", None), ('"12"', 12), ("12.0", 12)])
def test_a_total_may_be_a_text_and_an_impossible_one_is_ignored(total: str, pages: int | None) -> None:
    assert Pagination().read(b'{"data": [1], "total_pages": %b}' % total.encode()).total_pages == pages


def test_names_of_members_and_parameters_can_be_chosen() -> None:
    pagination = Pagination(data_field="items", total_pages_field="pages", page_parameter="p", limit_parameter="n")
    assert pagination.read(b'{"items": [1], "pages": 2}') == ([b"1"], 2)
    assert pagination.parameters(4, 50) == {"p": "4", "n": "50"}


def test_a_plain_array_has_underscored_parameters_and_no_total() -> None:
    pagination = Pagination(style="array")
    assert pagination.read(b"[1, {}]") == ([b"1", b"{}"], None)
    assert pagination.parameters(1, 10) == {"_page": "1", "_limit": "10"}


def test_an_api_without_pages_may_answer_with_an_array_or_an_envelope() -> None:
    pagination = Pagination(style="none")
    assert pagination.parameters(1, 10) == {}
    assert pagination.read(b" [1]").records == [b"1"]
    assert pagination.read(b'{"data": [2]}').records == [b"2"]


@pytest.mark.parametrize(
    ("style", "body", "message"),
    [
        ("envelope", b"<html>", "the body is not what was expected"),
        ("envelope", b"[]", "the body is not what was expected"),
        ("envelope", b'{"items": []}', r"no member 'data' \(it has: items\); set pagination.data_field"),
        ("envelope", b'{"data": 3}', "its member 'data' is not what was expected"),
        ("envelope", b'{"data": [], "total_pages": "many"}', "total_pages is not what was expected"),
        ("array", b'{"data": []}', "the body is not what was expected"),
        ("array", b"", "the body is not what was expected"),
    ],
)
def test_a_body_that_is_no_page_says_why(style: str, body: bytes, message: str) -> None:
    with pytest.raises(NotSplit, match=message):
        Pagination.model_validate({"style": style}).read(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * 60 + b"1]",
        b'{"data": [' + b"{}," * 60 + b"{}]}",
        b'{"data": [], ' + b'"a":1,' * 60 + b'"b":1}',
        b'["\\"\\\\",' + b"[1]," * 60 + b"1]",
    ],
)
def test_a_page_of_very_many_records_is_refused_before_it_is_taken_apart(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of two bytes takes sixty in memory."""
    style = "array" if body[:1] == b"[" else "envelope"
    pagination = Pagination.model_validate({"style": style})
    monkeypatch.setattr("producers.json_parts.MOST_PARTS", 50)
    with pytest.raises(NotSplit, match="more than 50 records or members"):
        pagination.read(body)
    monkeypatch.setattr("producers.json_parts.MOST_PARTS", 100)
    assert pagination.read(body)


def test_what_is_inside_the_records_of_a_page_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.json_parts.MOST_PARTS", 3)
    record = b'{"a": [1, 2, 3, 4, 5], "b": {"c": 1, "d": 2}, "e": ",,,\\",,,"}'
    assert Pagination(style="array").read(b"[" + record + b"," + record + b"]").records == [record, record]
    assert Pagination().read(b'{"data": [' + record + b"]}").records == [record]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_page_is_read_past_its_mark(codec: str) -> None:
    records = ['{"a": "é"}'.encode()]
    assert Pagination().read('{"data": [{"a": "é"}]}'.encode(codec)).records == records
    assert Pagination(style="array").read('[{"a": "é"}]'.encode(codec)).records == records
    assert Pagination(style="none").read('[{"a": "é"}]'.encode(codec)).records == records


@dataclass(frozen=True)
class SomePagesEmpty(ApiPages):
    """Pages of one record each, but for the empty ones; each says how many pages there are."""

    empty: Sequence[int] = ()
    said: int | None = 1
    asked: list[int] = field(default_factory=list)

    async def page(self, number: int, sent: SentRecords) -> ApiPage:  # noqa: ARG002 (nothing was sent)
        self.asked.append(number)
        assert len(self.asked) <= 2000, "it goes on for ever"
        return ApiPage(number, PageContent([] if number in self.empty else [b"%d" % number], self.said))


def read_pages(empty: Sequence[int], said: int | None, concurrency: int = 4) -> tuple[list[int], list[int]]:
    """Numbers of the pages that were read, and of those that were asked for."""
    api = SomePagesEmpty("shop", cast("Fetcher", None), "http://x/y", Pagination(), 1, concurrency, empty, said)

    async def read() -> list[int]:
        return [page.number async for page in api.read(1, SentRecords())]

    return asyncio.run(read()), api.asked


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("empty", [(1,), (3,), (2, 3, 4), (1, 2, 4, 6), (7,)])
def test_an_empty_page_within_the_total_hides_no_page_behind_it(empty: tuple[int, ...], concurrency: int) -> None:
    read, asked = read_pages(empty, 7, concurrency)
    assert read == [number for number in range(1, 8) if number not in empty]
    assert asked == [1, 2, 3, 4, 5, 6, 7]


def test_without_a_total_an_empty_page_is_the_last() -> None:
    assert read_pages(range(3, 1000), None)[0] == [1, 2]


def test_a_total_that_lies_costs_a_bounded_number_of_requests() -> None:
    read, asked = read_pages(range(3, 10**9), 10**9)
    assert read == [1, 2]
    assert len(asked) <= 2 + MOST_EMPTY_PAGES + 5


@dataclass(frozen=True)
class PagesInACircle(SomePagesEmpty):
    """A server that begins again behind its last page, after some that do not come again."""

    before: int = 0
    length: int = 1

    async def page(self, number: int, sent: SentRecords) -> ApiPage:
        page = await super().page(number, sent)
        place = number if number <= self.before else self.before + (number - self.before) % self.length
        return page._replace(content=PageContent([b"%d" % place], self.said))


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("before", [0, 5])
def test_pages_that_lead_in_a_circle_end_the_run(before: int, length: int) -> None:
    api = PagesInACircle("shop", cast("Fetcher", None), "http://x/y", Pagination(), 1, 4, (), None, [], before, length)

    async def read() -> None:
        async for _ in api.read(1, SentRecords()):
            pass

    with pytest.raises(SourceFailed, match="the same page again and again"):
        asyncio.run(read())
    assert len(api.asked) <= 4 * (before + length) + 8
