"""Byte order marks: what many programs put before text, and what says that it is UTF-16."""

import codecs

_MARKS = (  # UTF-32's begins with UTF-16's: longest first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def unmarked(body: bytes) -> bytes:
    """Text in UTF-8 without its mark, and what a mark says is UTF-16 or UTF-32 as UTF-8; else as it is. Pure.

    Bytes that are no text become U+FFFD.
    """
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            text = body[len(mark) :]
            return text if encoding == "utf-8" else text.decode(encoding, "replace").encode("utf-8", "replace")
    return body
