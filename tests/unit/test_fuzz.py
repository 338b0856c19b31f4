"""Whatever strangers send ends as a record, a failure or an error that is documented, never as another exception.

A thousand inputs each in the gate, the same every time; a million together at night (`--hypothesis-profile=nightly`),
others each time.
"""

import functools
import hashlib
import hmac
import json
import random
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

from api.problems import ProblemAnswer
from api.record_pages import decode_cursor, encode_cursor
from producers.csv.source import CsvBlock, CsvSource
from producers.json_parts import NotSplit, elements, members
from producers.rss.entries import NotAFeed, read_feed
from producers.source import SourceFailed
from producers.webhook.source import SignatureRefused, WebhookBlock
from producers.webhook.webhooks import BodyRefused, TooManyRecords, records_in
from schemas.events import HEADER_KIND, HEADER_MAPPING, HEADER_PROBLEM, HEADER_RUN, HEADER_SOURCE
from schemas.field_reading import FieldReading, encode_mapping
from schemas.registry import all_datasets
from stream_processors.normalize import Normalized, RecordNormalizer, Rejected
from tests.unit.stream_processors.raw_records import RawRecord, customer

NIGHTLY = hypothesis.settings.get_current_profile_name() == "nightly"
INPUTS = 150_000 if NIGHTLY else 1_000
BEGIN = secrets.randbits(32) if NIGHTLY else 0

NOW = 1_800_000_000_000
LONGEST = 400
"""Bytes: what goes wrong in a reader takes few of them, and feedparser's time has no end on some longer ones."""

TOKENS = [
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b'"', b'""', b"'", b"\\", b"\\u0000", b"\\ud800",
    b"\r", b"\r\n", b"\n", b"\t", b",", b";", b"|", b"{", b"}", b"[", b"]", b":", b"null", b"NaN", b"-0", b"1e999",
    b"[" * 60, b"<", b">", b"&", b"&#0;", b"&#x110000;", b"<![CDATA[", b"]]>", b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
    b"<item>", b"1" * 40,
    b"</item>", b"<?xml version='1.0' encoding='utf-7'?>", b"sha256=", b"=", b"==", b"\xe2\x80\xae",
    b"\xf0\x9f\x98\x80", b"\xc3", b"@row",
]  # fmt: skip


def mutated(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of them with a few places cut out, doubled, replaced or grown."""
    found = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(0, 6)):
        at = chance.randint(0, len(found))
        to = min(len(found), at + chance.choice([1, 2, 4, 16, 64]))
        match chance.randrange(5):
            case 0:
                del found[at:to]
            case 1:
                found[at:at] = found[at:to]
            case 2:
                found[at:at] = chance.choice(TOKENS)
            case 3:
                found[at:to] = chance.randbytes(to - at)
            case 4:
                found[at:] = chance.choice(seeds)[at:]
    return bytes(found[:LONGEST])


Input = Callable[[], bytes]
Target = Callable[[Input, random.Random, Path], None]

CSV = [
    b"id,name,price\n1,Bread,2.50\n2,\"Milk, fresh\",1.10\n",
    b"id;name;price\r\n1;Br\xf6tchen;2,50\r\n2;\"a\"\"b\";1.234,50\r\n",
    b"sep=;\nid;name\n1;x\n",
    b"\xff\xfei\x00d\x00,\x00n\x00\n\x001\x00,\x002\x00\n\x00",
    "id\tname\n1\t\u0416\u0438\u0432\n".encode("cp1251"),
]  # fmt: skip


def csv(made: Input, chance: random.Random, folder: Path) -> None:
    path = folder / "a.csv"
    path.write_bytes(made())
    options: dict[str, object] = {
        "kind": "csv", "dataset": "records", "path": "a.csv", "key": "id",
        "delimiter": chance.choice([None, ";", "tab"]),
        "skip_lines": chance.choice([0, 0, 1]), "comment": chance.choice([None, "#"]),
        "escape": chance.choice([None, "\\"]),
    }  # fmt: skip
    block = CsvBlock.model_validate(options)
    with suppress(SourceFailed):
        for batch in CsvSource(block.describe("shop"), block, path).read():
            assert all(record.value for record in batch.records)


FEED = [
    (
        b"<?xml version='1.0'?><rss version='2.0'><channel><title>News</title><item><guid>1</guid>"
        b"<title>A &amp; B</title><pubDate>Mon, 01 Jan 2024 00:00:00 GMT</pubDate></item></channel></rss>"
    ),
    (
        b"<feed xmlns='http://www.w3.org/2005/Atom'><title>T</title><entry><id>1</id>"
        b"<title type='html'>&lt;b&gt;x</title><link href='/a'/><updated>2024-01-01T00:00:00Z</updated></entry></feed>"
    ),
]


def feed(made: Input, chance: random.Random, _folder: Path) -> None:
    content_type = chance.choice([None, "text/xml", "application/atom+xml; charset=koi8-r", "text/html;charset=x"])
    with suppress(NotAFeed):
        for entry in read_feed(made(), content_type).entries:
            # What could not be read stands there as it is, with the reason.
            assert (json.loads(entry.value) is not None) if entry.problem is None else entry.value


RECORDS = [
    customer(), b'{"customer_id":7,"email":"a@b.example","date_of_birth":"1/2/2024"}',
    b'{"order_id":"1","amount":"1.234,5"}',
    b'{"source_id":"x","name":null,"value":1e5}',
    b'{"email":"a@b.example","name":"A"}', b"[1,2]", b'"x"', b"", b"shop:1",
]  # fmt: skip
MAPPING = encode_mapping({
    "customer_id": FieldReading(columns=("customer_id", "email")),
    "email": FieldReading(column="contact.mail", required=True),
    "account_balance": FieldReading(default="1.5", decimal=",", nulls=("-",)),
}) or b""  # fmt: skip
HEADERS = (HEADER_SOURCE, HEADER_KIND, HEADER_RUN, HEADER_MAPPING, HEADER_PROBLEM, "other")
READERS = [RecordNormalizer(dataset) for dataset in all_datasets()]


def normalizer(made: Input, chance: random.Random, _folder: Path) -> None:
    value, key = chance.choice([None, made()]), chance.choice([None, b"CUST001", made()])
    headers = [(name, chance.choice([None, b"shop", made()])) for name in chance.sample(HEADERS, 3)]
    for reader in READERS:
        assert isinstance(reader.normalize(RawRecord(value, headers, key), NOW), Normalized | Rejected)


def mapping(made: Input, chance: random.Random, _folder: Path) -> None:
    record = RawRecord(chance.choice(RECORDS), [(HEADER_SOURCE, b"shop"), (HEADER_MAPPING, made())])
    for reader in READERS:
        assert isinstance(reader.normalize(record, NOW), Normalized | Rejected)


def cursor(made: Input, chance: random.Random, _folder: Path) -> None:
    with suppress(ProblemAnswer):
        parts = chance.randint(1, 3)
        assert len(decode_cursor(made().decode("latin-1"), parts)) == parts


SECRET = "a secret of 32 letters, or nearly"
BODY = b'{"id": 1}'
STAMPED = {"timestamp_header": "X-Time"}
MANY = {"signature_separator": ",", "timestamp_prefix": "t="}
HOOKS = [
    WebhookBlock.model_validate({"kind": "webhook", "dataset": "records", "key": "id", "secret": SECRET, **more})
    for more in ({}, {"signature_encoding": "base64", "signature_prefix": ""}, STAMPED, MANY)
]
SIGNATURES = [f"sha256={hmac.digest(SECRET.encode(), BODY, hashlib.sha256).hex()}".encode(), b"1800000000", b"aGFsbG8="]


def signature(made: Input, chance: random.Random, _folder: Path) -> None:
    hook, body = chance.choice(HOOKS), chance.choice([BODY, made()])
    given = made().decode("latin-1")
    headers = {hook.signature_header: given, "X-Time": chance.choice(["1800000000", made().decode("latin-1")])}
    with suppress(SignatureRefused):
        hook.check_signature(body, headers, 1_800_000_000.0)
        assert given.strip().lower() == SIGNATURES[0].decode()
        assert body == BODY


def json_parts(made: Input, _chance: random.Random, _folder: Path) -> None:
    body = made()
    for read in (elements, members, records_in):
        with suppress(NotSplit, BodyRefused, TooManyRecords):
            read(body)


TARGETS: dict[Target, Sequence[bytes]] = {
    csv: CSV,
    feed: FEED,
    normalizer: [*RECORDS, MAPPING],
    mapping: [MAPPING, b"{}", b'{"name":"a"}'],
    cursor: [encode_cursor(("CUST001",)).encode(), encode_cursor(("a", "b")).encode(), b"W10="],
    signature: [*SIGNATURES, BODY],
    json_parts: [b'{"data":[{"id":1},{"id":2}],"total_pages":3}', b'[{"a":"\\u00e4"},[1,2],null]', b"[]"],
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_no_exception_escapes_that_is_not_documented(target: Target, tmp_path: Path) -> None:
    for number in range(BEGIN, BEGIN + INPUTS):
        chance = random.Random(number)
        try:
            target(functools.partial(mutated, chance, TARGETS[target]), chance, tmp_path)
        except Exception as error:
            raise AssertionError(f"{target.__name__} of random.Random({number}) raises {error!r}") from error
