"""Encodings that are accepted decode anything that a file may hold; Python's other codecs are refused by name."""

import encodings
import encodings.aliases
import io
import pkgutil

import pytest

from producers.csv.format import detect_encoding, detect_format
from producers.csv.rows import BadRow, CsvRows
from producers.text.found_encoding import is_text_encoding

CODECS = sorted({module.name for module in pkgutil.iter_modules(encodings.__path__)} | set(encodings.aliases.aliases))
HOSTILE = bytes(range(256)) * 3 + b'a,b\r\n"c\\x41\\u12,&#,+AGE-,~{,xn--a-\n\x1b$B\x1b(J\xff\xfe\x00\xd8\\\\\\'


@pytest.mark.parametrize("name", [name for name in CODECS if is_text_encoding(name)])
def test_an_accepted_encoding_reads_any_bytes(name: str) -> None:
    found = detect_format(HOSTILE, detect_encoding(HOSTILE, name).name)
    rows = CsvRows(io.BytesIO(HOSTILE), found.encoding, found.delimiter)
    for row in rows:
        assert isinstance(row, BadRow | list)
        assert isinstance(rows.payload(), bytes)
        rows.place()
    rows.unfinished()
    assert "a,b".encode(name).decode(name) == "a,b"


@pytest.mark.parametrize(
    "name",
    [
        *("idna", "punycode", "hex", "base64", "rot13", "zip", "bz2", "uu", "quopri", "unicode_escape"),
        *("raw_unicode_escape", "undefined", "charmap", "mbcs", "oem", "utf-9", "", "\0", "é", "..", "a" * 100_000),
    ],
)
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    assert not is_text_encoding(name)


@pytest.mark.parametrize("name", ["utf8", "UTF-16", "latin1", "windows-1252", "cp037", "koi8-r", "Shift_JIS", "gb2312"])
def test_the_usual_names_are_accepted(name: str) -> None:
    assert is_text_encoding(name)
