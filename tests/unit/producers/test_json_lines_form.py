"""What is no JSON object a line is refused before its first record, with the way out; a bad first record is not."""

import gzip
import json
from pathlib import Path

import pytest

from producers.jsonl.source import DeletedKeysSource, JsonLinesSource, Lines
from producers.source import SourceDescription, SourceFailed
from schemas.registry import dataset_named

PUSHED = SourceDescription("push", "push", dataset_named("customers"))
RECORDS = [{"customer_id": "a", "tags": [{"x": 1}]}, {"customer_id": "b", "tags": []}]
ONE, TWO = (json.dumps(record).encode() for record in RECORDS)


def published(path: Path, content: bytes) -> list[bytes | None]:
    path.write_bytes(content)
    return [record.value for batch in JsonLinesSource(PUSHED, path).read() for record in batch.records]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (json.dumps(RECORDS).encode(), r"a JSON array, .* `jq -c '\.\[\]' FILE`"),
        (json.dumps(RECORDS, indent=2).encode(), "a JSON array"),
        (b"[\n" + ONE + b",\n" + TWO + b"\n]\n", "a JSON array"),
        (b"[\n" + ONE + b"\n]\n", "a JSON array"),
        (b"[" + ONE + b"\n," + TWO + b"\n]\n", "a JSON array"),
        (b"[]", "a JSON array"),
        (json.dumps({"items": RECORDS}, indent=2).encode(), r"over several lines, .* `jq -c \. FILE`"),
        (json.dumps(RECORDS[0], indent="\t").encode("utf-16"), "over several lines"),
        (
            b"customer_id,first_name\na,Ada\nb,Bob\n",
            r"`headrace publish csv FILE` reads CSV; it begins with",
        ),
        ("customer_id;first_name\na;Ada\n".encode("utf-16"), "reads CSV"),
        (b"customer_id\na\n", "first lines are no JSON objects; it begins with b'customer_id'"),
        (ONE + b",\n" + TWO + b",\n" + ONE, "commas between its objects"),
        ("".join(f"{record!r}\n" for record in RECORDS).encode(), "Python's notation, and not JSON"),
        (b"<!DOCTYPE html>\n<html>\n<body>Not found</body>\n</html>\n", "an HTML or XML document"),
        (gzip.compress(gzip.compress(ONE, mtime=0), mtime=0), "packed with gzip twice"),
        (b"PK\x03\x04\x14\x00\x00\n\x00", "a ZIP archive or an Excel workbook"),
        (b"not json", "first lines are no JSON objects; it begins with b'not json'"),
        (b"a log line\n" * 20 + ONE, "first lines are no JSON objects"),
    ],
    ids=lambda value: repr(value)[:30],
)
@pytest.mark.parametrize("before", [b"", b"\n  \r\n"], ids=["at once", "after blank lines"])
def test_a_text_that_is_not_json_lines_is_refused_as_a_whole(
    tmp_path: Path, content: bytes, what: str, before: bytes
) -> None:
    if before and content[:2] in {b"\x1f\x8b", b"\xff\xfe"}:
        return
    with pytest.raises(SourceFailed, match=rf"x: it.*{what}.*; nothing of it is published"):
        published(tmp_path / "x", before + content)


@pytest.mark.parametrize(
    "first",
    [
        b'{"customer_id": NaN}', b'{"customer_id": "a\tb"}', b"not json", b"[1, 2]", b"null", b'{"customer_id": "cut',
        b'{"customer_id":', b'"text"', b'{"customer_id": "a"},',
        b"{'customer_id': 'a'}", b"Starting the export, please wait", b"<", b"\xff\xfd", b"}",
    ],
)  # fmt: skip
def test_a_bad_first_line_is_one_failure_among_records(tmp_path: Path, first: bytes) -> None:
    assert published(tmp_path / "x", first + b"\n\n" + ONE + b"\n" + TWO + b"\n") == [first, ONE, TWO]


@pytest.mark.parametrize("alone", [b'{"customer_id": NaN}', b'{"customer_id": "cut', b'{"a": "x\ny"}\n' + ONE])
def test_records_that_are_broken_are_still_records(tmp_path: Path, alone: bytes) -> None:
    assert published(tmp_path / "x", alone) == alone.split(b"\n")


@pytest.mark.parametrize("content", [b"", b"\n\n", "\ufeff".encode(), "".encode("utf-16")])
def test_an_empty_file_has_no_records(tmp_path: Path, content: bytes) -> None:
    assert published(tmp_path / "x", content) == []


def deleted(path: Path, content: bytes) -> list[str | None]:
    path.write_bytes(content)
    source = DeletedKeysSource(PUSHED, Lines(path))
    return [record.key for batch in source.read() for record in batch.records]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_keys_to_delete_are_read_past_a_mark(tmp_path: Path, codec: str) -> None:
    assert deleted(tmp_path / "x", "CUST001\r\n{3F25-04E0}\r\n".encode(codec)) == ["CUST001", "{3F25-04E0}"]


@pytest.mark.parametrize("content", [ONE, json.dumps(RECORDS, indent=2).encode(), b"[\n1\n]", b"<html>", b"PK\x03\x04"])
def test_a_text_without_keys_deletes_nothing(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceFailed, match=r"and not one key a line; .*; nothing is deleted"):
        deleted(tmp_path / "x", b"\n" + content)
