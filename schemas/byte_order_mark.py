"""Byte order marks: what many programs put before text, and what says that it is UTF-16."""

import codecs
import re

_MARKS = (  # UTF-32's begins with UTF-16's: longest first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF_8_MARKS = re.compile(rb"\A(?:\xef\xbb\xbf)+")


def unmarked(body: bytes) -> bytes:
    """Text in UTF-8 without its mark, and what a mark says is UTF-16 or UTF-32 as UTF-8; else as it is. Pure.

    No mark is left before it. What is no text in UTF-16 or UTF-32 becomes U+FFFD.
    """
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body.decode(encoding, "replace").lstrip("\ufeff").encode()
    return _UTF_8_MARKS.sub(b"", body)
