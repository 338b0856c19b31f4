"""Is it an encoding of text? Python's list of codecs has others: compression, escapes, names of hosts. Pure."""

import codecs
import importlib
import re
from _multibytecodec import MultibyteIncrementalDecoder

CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\"';\s]*)[\"']?", re.IGNORECASE)
"""The charset within a Content-Type."""

EXPECTED = "expected an encoding of text, e.g. utf-8, cp1252, iso-8859-1, utf-16, shift_jis"

_BY_RULE = frozenset(
    {"ascii", "iso8859-1", "utf-7", "utf-8", "utf-8-sig"}
    | {f"utf-{size}{order}" for size in (16, 32) for order in ("", "-le", "-be")}
)


def is_text_encoding(name: str) -> bool:
    """Whether Python has a codec of that name that decodes any bytes piece by piece, with a mark for wrong ones.

    These are the Unicode forms, those with a table of 256 characters, and the East Asian ones. `idna`, `punycode`,
    `unicode_escape`, `undefined` and the like say that they are encodings of text too, and read hardly any.
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
