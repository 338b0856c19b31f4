"""The encoding of a text, told from a sample, with what says so and how sure that is. Pure.

A setting or a mark is taken as it is; Unicode forms prove themselves; the rest is guessed, and refused if that isn't
sure.
"""

import codecs
import importlib
import re
from _multibytecodec import MultibyteIncrementalDecoder
from typing import Literal, NamedTuple

from producers.text.encoding_guess import first_difference, guess_encoding, reads

CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\"';\s]*)[\"']?", re.IGNORECASE)
"""The charset within a Content-Type."""

EXPECTED = "expected an encoding of text, e.g. utf-8, cp1252, iso-8859-1, utf-16, shift_jis"

_BY_RULE = frozenset(
    {"ascii", "iso8859-1", "utf-7", "utf-8", "utf-8-sig"}
    | {f"utf-{size}{order}" for size in (16, 32) for order in ("", "-le", "-be")}
)


SAMPLE_BYTES = 1_048_576
GUESS_BYTES = 65_536
"""Bytes of lines that are not ASCII that are looked at for a guess."""
WIDE_BYTES = 65_536
SURE = 0.9

BOMS = (  # UTF-32's begins with UTF-16's: longest first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SEVEN_BITS = ["ascii", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_ext", "iso2022_kr", "hz"]
_WIDER = {  # what servers call one thing and mean the other, as browsers know
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}

_SEPARATORS = (b"\n", b"\r", b"\t", b" ", b",", b";")

_BINARY = {  # files that are no text, by their first bytes
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "packed with gzip",
    b"\xfd7zXZ": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with Zstandard",
}
_LIKE_TEXT = {  # the header of a table may begin so
    b"<": "an HTML or XML document",
    b"BZh": "packed with bzip2",
    b"PAR1": "a Parquet file",
}

Origin = Literal["setting", "mark", "server", "content", "guess", "checkpoint"]


class TextEncoding(NamedTuple):
    """An encoding, what says so, and how sure that is (0 to 1). A `checkpoint` is an earlier run's."""

    name: str
    by: Origin
    sure: float = 1.0

    def __str__(self) -> str:
        return f"{self.name} (a guess, {self.sure:.0%} sure)" if self.by == "guess" else self.name


class UnsureEncoding(ValueError):
    """It cannot be told which encoding it is; the message says between which, and what to set."""


def binary_kind(beginning: bytes) -> str | None:
    """Name of what begins so and can be no text; None for what can."""
    return next((what for magic, what in _BINARY.items() if beginning.startswith(magic)), None)


def file_kind(beginning: bytes) -> str | None:
    """The same, also for what might be the first letters of a text that is no JSON."""
    like_text = (what for magic, what in _LIKE_TEXT.items() if beginning.startswith(magic))
    return binary_kind(beginning) or next(like_text, None)


def is_text_encoding(name: str) -> bool:
    """True if Python has a codec of that name that decodes any bytes piece by piece, with a mark for wrong ones.

    These are the Unicode forms, those with a table of 256 characters, and the East Asian ones. Python's list has others
    that read hardly any text: compression, escapes, names of hosts.
    """
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError, TypeError):
        return False
    if codec.name in _BY_RULE:
        return True
    decoder = codec.incrementaldecoder
    if not isinstance(decoder, type):
        return False
    if issubclass(decoder, MultibyteIncrementalDecoder):
        return True
    return hasattr(importlib.import_module(decoder.__module__), "decoding_table")


def find_encoding(sample: bytes, setting: str | None = None, served: str | None = None) -> TextEncoding:
    """The encoding of a text or of its first SAMPLE_BYTES: as set, marked, served, proved by its bytes, or guessed.

    `served` is the charset of a Content-Type. A few lines that are not valid UTF-8 do not turn a UTF-8 file into
    something else. Raises UnsureEncoding.
    """
    marked = next((name for bom, name in BOMS if sample.startswith(bom)), None)
    if setting is not None:
        return TextEncoding(_plain(setting, marked, sample), "setting")
    if marked:
        return TextEncoding(marked, "mark")
    if wide := _wide(sample[:WIDE_BYTES]):
        return TextEncoding(wide, "content")
    if len(sample) >= SAMPLE_BYTES:  # the last character may be cut
        sample = sample[: max(sample.rfind(end) for end in _SEPARATORS) + 1]
    lines = [line for line in re.split(rb"[\r\n]+", sample) if not line.isascii()]
    if not lines:
        return TextEncoding(_seven_bits(sample), "content")
    # Text in another encoding is hardly ever valid UTF-8 by accident: a few bad lines in a UTF-8 file are just that.
    valid = sum(reads("utf-8", line) for line in lines) / len(lines)
    if served is not None and (said := _served(served, lines, valid)):
        return TextEncoding(said, "server")
    if valid >= 0.5:
        return TextEncoding("utf-8", "content", round(valid, 3))
    return _guessed(lines)


def _guessed(lines: list[bytes]) -> TextEncoding:
    text, size = list[bytes](), 0
    for line in lines:
        text.append(line[:GUESS_BYTES])
        size += len(line)
        if size >= GUESS_BYTES:
            break
    guess = guess_encoding(text)
    if guess is None:
        raise UnsureEncoding("its text is in none of the encodings that can be told apart: set `encoding`")
    if guess.sure < SURE:
        one, other = first_difference(text, guess.encoding, guess.other or guess.encoding)
        raise UnsureEncoding(
            f"its encoding cannot be told: {guess.encoding} reads {one[:40]!r}, {guess.other} reads {other[:40]!r}; "
            "set `encoding` to the one that is right"
        )
    return TextEncoding(codecs.lookup(guess.encoding).name, "guess", guess.sure)


def _served(charset: str, lines: list[bytes], valid: float) -> str | None:
    """The charset that a server gives, or a wider one that is meant; None if the text itself knows better."""
    if not is_text_encoding(charset):
        return None
    name = codecs.lookup(charset).name
    if name in {"utf-8", "ascii"} and valid < 0.5:
        raise UnsureEncoding(f"it is served as {charset}, and most of its lines are not: set `encoding`")
    if name in {"utf-8", "ascii", "utf-16", "utf-32"} or (name == "iso8859-1" and valid == 1):
        return None  # many servers call everything Latin 1
    wider = _WIDER.get(name, name)
    text = b"\n".join(lines)
    if wider != name and (not reads(name, text) or (name == "iso8859-1" and re.search(rb"[\x80-\x9f]", text))):
        name = wider
    if sum(reads(name, line) for line in lines) * 2 < len(lines):
        raise UnsureEncoding(f"it is served as {charset}, and most of its lines are not: set `encoding`")
    return name


def _wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark. Its line ends, or in a single line its ASCII, are such in one of them only."""
    if 0 not in head:
        return None
    for name in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(name)().decode(head)  # the last character may be cut
        except UnicodeDecodeError:
            continue
        ends, plain = text.count("\n") + text.count("\r"), sum(character.isascii() for character in text)
        if text.count("\0") * 100 <= len(text) <= plain * 20 and ends * 2 >= head.count(b"\n") + head.count(b"\r"):
            return name
    return None


def _seven_bits(sample: bytes) -> str:
    """UTF-8 for ASCII, unless escapes in it say that it stands for other characters."""
    if b"\x1b$" not in sample and b"\x0e" not in sample and b"~{" not in sample:
        return "utf-8"
    import chardet  # here, since its models are large and few texts need a guess

    name = chardet.detect(
        sample[:GUESS_BYTES], include_encodings=_SEVEN_BITS, compat_names=False, no_match_encoding="ascii"
    )["encoding"]
    return "utf-8" if name is None or name == "ascii" else codecs.lookup(name).name


def _plain(encoding: str, marked: str | None, sample: bytes) -> str:
    """The codec that writes no byte order mark; a mark at the start is dropped on reading."""
    name = codecs.lookup(encoding).name
    if name in {"utf-16", "utf-32"}:
        return marked or _wide(sample[:WIDE_BYTES]) or f"{name}-le"
    return "utf-8" if name == "utf-8-sig" else name
