"""Whatever text comes, it takes time in proportion to its length: no record and no request can stop a process.

CPU time is measured, so that a busy machine makes no difference. Four times the input may take ten times as long:
linear work takes 4, quadratic work 16.
"""

import time
from collections.abc import Callable

import msgspec
import pytest

from api.search.highlight import Highlighter
from api.search.service import search_body
from producers.api.pages import Pagination
from producers.csv.format import column_names
from producers.json_parts import NotSplit
from producers.record_key import JsonRecordKey
from producers.rss.entries import read_feed
from producers.source import SourceDescription
from producers.webhook.webhooks import records_in
from schemas.errors import InvalidField
from schemas.events import HEADER_KIND, HEADER_MAPPING, HEADER_PROBLEM, HEADER_SOURCE
from schemas.registry import all_datasets, dataset_named, ingested_datasets
from schemas.text import fold, tidy
from sinks.drift.fields import shape_of
from stream_processors.normalize import RecordNormalizer
from tests.unit.stream_processors.raw_records import RawRecord, customer

SMALL, FACTOR, MOST = 4_000, 4, 10
NOISE_SECONDS = 0.02
"""A shorter time says nothing; this much is what the quadratic ones exceed by far."""

HOSTILE = {
    "marks out of order": "a" + "\u0300\u0316" * 50,
    "marks that decompose": "\u0f73\u0344" * 50,
    "half-width voice marks": "a" + "\uff9e\u0316\u0300" * 33,
    "letters with marks": "e\u0301" * 50,
    "Hangul in parts": "\u1112\u1161\u11ab" * 33,
    "dots": "a." * 50,
    "commas": "1,111" * 20,
    "digits": "1" * 100,
    "zeros": "0" * 100,
    "signs": "+-" * 50,
    "spaces": "  \t\u2003" * 25,
    "dates": "2024-01-01T00" * 8,
    "addresses": "a@a." * 25,
    "colons": "a:" * 50,
    "words": "ab " * 33,
    "apostrophes": "1'" * 50,
    "brackets": "(" * 100,
    "markup": "<b>&amp;" * 12,
    "emoji": "\U0001f468\u200d" * 50,
}
CUSTOMERS = dataset_named("customers")


def grows_in_proportion(work: Callable[[str], object], text: str) -> bool:
    """Whether `FACTOR` times the text takes about `FACTOR` times as long; tried again before it is held against it."""
    return any(_seconds(work, FACTOR * SMALL, text) <= MOST * _seconds(work, SMALL, text) for _ in range(3))


def _seconds(work: Callable[[str], object], characters: int, text: str) -> float:
    hostile = text * (characters // len(text))
    started = time.process_time()
    work(hostile)
    return max(time.process_time() - started, NOISE_SECONDS)


def _normalize(value: bytes, **headers: str) -> None:
    named = {"source": HEADER_SOURCE, "kind": HEADER_KIND, "mapping": HEADER_MAPPING, "problem": HEADER_PROBLEM}
    sent = tuple((named[name], content.encode("utf-8", "replace")) for name, content in headers.items())
    for dataset in ingested_datasets():
        RecordNormalizer(dataset).normalize(RawRecord(value, sent, value[:2000]), 0)


def _of_json(value: str) -> bytes:
    return msgspec.json.encode(value)


def _page(body: bytes) -> None:
    for page in (b"[%b]" % body, b'{"data": [%b], "x": [%b' % (body, body)):
        try:
            Pagination(style="none").read(page)
        except NotSplit:
            continue


def _every_field(text: str) -> None:
    for dataset in all_datasets():
        for field in dataset.fields:
            try:
                field.type.normalize(text)
            except InvalidField:
                continue


WAYS_IN: dict[str, Callable[[str], object]] = {
    "every field type": _every_field,
    "a text of any length": lambda text: (tidy(text), fold(text)),
    "a field": lambda text: _normalize(customer(address=text, email=text, customer_id=text)),
    "a field without a meaning": lambda text: _normalize(customer(**{text: 1})),
    "a source's name": lambda text: _normalize(customer(), source=text, kind=text),
    "a problem": lambda text: _normalize(customer(), problem=text),
    "a mapping": lambda text: _normalize(customer(), mapping=text),
    "a mapped column": lambda text: _normalize(
        customer(), mapping=msgspec.json.encode({"phone": text, "address": {"from": text, "default": text}}).decode()
    ),
    "a delete's key": lambda text: RecordNormalizer(CUSTOMERS).normalize(RawRecord(None, (), text.encode()), 0),
    "no JSON": lambda text: _normalize(text.encode()),
    "a key": lambda text: JsonRecordKey(SourceDescription("s", "push", CUSTOMERS)).of(customer(customer_id=text)),
    "a webhook's body": lambda text: records_in(b"[%b]" % _of_json(text)),
    "a webhook's body that is no JSON": lambda text: records_in(b"[NaN,%b]" % _of_json(text)),
    "a page that is no JSON": lambda text: _page(text.encode("utf-8", "replace")),
    "a CSV header's name": lambda text: column_names([text] * 3),
    "a shape": lambda text: shape_of(msgspec.json.encode({text: text})),
    "a search": lambda text: search_body(list(all_datasets()), text[:200], 0, 10),
    "a highlighted text": lambda text: Highlighter("ab muller 1111 2024").mark(text),
    "a highlight's query": lambda text: Highlighter(text[:200]).mark("Müller " * 100),
    "a highlighted text and its query": lambda text: Highlighter(text[:200]).mark(text),
    "a feed's entry": lambda text: read_feed(
        b"<rss version='2.0'><channel><item><title>%b</title><description>%b</description></item></channel></rss>"
        % ((text.encode("utf-8", "replace").replace(b"<", b"&lt;"),) * 2)
    ),
}


@pytest.mark.parametrize("work", WAYS_IN.values(), ids=WAYS_IN)
def test_every_way_in_takes_time_in_proportion_to_the_text(work: Callable[[str], object]) -> None:
    assert [name for name, text in HOSTILE.items() if not grows_in_proportion(work, text)] == []


MANY: dict[str, Callable[[int], object]] = {
    "keys": lambda n: _normalize(msgspec.json.encode({f"k{i}": i for i in range(n)})),
    "keys that occur twice": lambda n: _normalize(b"{%b}" % b",".join(b'"k":%d' % i for i in range(n))),
    "levels": lambda n: _normalize(b'{"a":' * n + b"1" + b"}" * n),
    "digits of a number": lambda n: _normalize(b'{"customer_id":1,"account_balance":%b}' % (b"9" * n)),
    "digits of an exponent": lambda n: _normalize(b'{"customer_id":1,"account_balance":1e%b}' % (b"9" * n)),
    "digits of an exponent in text": lambda n: _normalize(customer(account_balance="-1e" + "9" * min(n, 90))),
    "elements of a webhook's body": lambda n: records_in(b"[%b]" % b",".join([b"{}"] * n)),
    "levels of a page": lambda n: _page(b'{"a":[1,' * n),
    "levels of a page that do not match": lambda n: _page(b"[" * n + b"}" * n),
    "records of a page without an end": lambda n: _page(b'{"a":[{"b":1,' * n + b"]"),
    "equal columns": lambda n: column_names(["a"] * n),
    "columns that look like repeats": lambda n: column_names(["a", "a_2", "a_3"] * (n // 3)),
    "columns without a name": lambda n: column_names([""] * n),
    "levels of a shape": lambda n: shape_of(b'{"a":' * n + b"1" + b"}" * n),
}


@pytest.mark.parametrize("work", MANY.values(), ids=MANY)
def test_many_of_a_kind_take_time_in_proportion_to_their_number(work: Callable[[int], object]) -> None:
    assert grows_in_proportion(lambda text: work(len(text)), "x")
