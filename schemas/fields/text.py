"""Field types of text: any, that of keys, e-mail addresses, and what a source says of itself."""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal
from unicodedata import is_normalized

from schemas.errors import InvalidField
from schemas.fields.field_type import Shortcut, TextColumn
from schemas.text import SHORT, UNSEEN, tidy


@dataclass(frozen=True)
class Text(TextColumn):
    """Text, trimmed, inner white space collapsed, Unicode NFC; at most `max_length` characters, unbounded if None."""

    max_length: int | None = None
    search: bool = False

    def shortcut(self) -> Shortcut:
        longest = SHORT if self.max_length is None else min(self.max_length, SHORT)

        def read(value: object) -> str | None:
            if type(value) is str:
                text = " ".join(value.split())
                # Printable is neither NUL nor half a surrogate pair.
                if len(text) <= longest and text.isprintable() and (text.isascii() or is_normalized("NFC", text)):
                    return text or None
            return None

        return read

    def normalize(self, value: object) -> str | None:
        text = tidy(value, self.max_length)
        if text is not None and self.max_length is not None and len(text) > self.max_length:
            raise InvalidField("too_long", f"{len(text)} characters, at most {self.max_length} fit")
        return text


SHORTEST_HASH = 16
"""Characters, of four bits each: with fewer, two ids of millions might get one hash."""


@dataclass(frozen=True)
class KeyText(Text):
    """Text of which only what people see counts: without marks, joiners and the like. In a dataset's key, Text is this.

    One that is too long for its column becomes its SHA-256 in hex, cut to the column.
    """

    def shortcut(self) -> Shortcut:
        longest = SHORT if self.max_length is None else self.max_length

        def read(value: object) -> str | None:
            if type(value) is str and value.isascii():
                text = " ".join(value.split())
                if len(text) <= longest and text.isprintable():
                    return text or None
            return None

        return read

    def normalize(self, value: object) -> str | None:
        text = tidy(value, None, UNSEEN)
        longest = self.max_length
        if text is None or longest is None or len(text) <= longest:
            return text
        if longest < SHORTEST_HASH:
            raise InvalidField("too_long", f"{len(text)} characters, at most {longest} fit")
        return hashlib.sha256(text.encode()).hexdigest()[:longest]


@dataclass(frozen=True)
class FromSource(TextColumn):
    """Text that the source gives where the record does not: its `kind` (api, csv, …) or its `name` in sources.toml."""

    part: Literal["kind", "name"]
    max_length: int = 100
    search: bool = False

    def normalize(self, value: object) -> str | None:
        text = tidy(value, self.max_length, UNSEEN)
        if text is not None and len(text) > self.max_length:
            raise InvalidField("too_long", f"{len(text)} characters, at most {self.max_length} fit")
        if text is not None and ":" in text:
            raise InvalidField("key_separator", f"{text[:40]!r} contains ':', which separates the parts of a key")
        return text


# One expression instead of several checks, because it runs once per record: at most 64 characters before the @, no dot
# at either end of that part nor two in a row; labels of at most 63 characters.
# Possessive, so that nothing is tried twice.
_LOCAL = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]++"
_EMAIL = re.compile(
    rf"(?=[^@]{{1,64}}+@){_LOCAL}(?:\.{_LOCAL})*+@(?:(?!-)[a-z0-9-]{{1,63}}+(?<!-)\.)++(?!-)[a-z0-9-]{{2,63}}+(?<!-)"
)


@dataclass(frozen=True)
class Email(TextColumn):
    """An e-mail address in lower case. Its form is checked (HTML's rule plus a dotted domain), not that it exists."""

    personal = True

    max_length: int = 255
    search: bool = False

    def shortcut(self) -> Shortcut:
        longest, is_email = self.max_length, _EMAIL.fullmatch

        def read(value: object) -> str | None:
            if type(value) is str and value.isascii() and len(value) <= longest:
                text = value.lower()
                if is_email(text):
                    return text
            return None

        return read

    def normalize(self, value: object) -> str | None:
        text = tidy(value, self.max_length, UNSEEN)
        if text is None:
            return None
        text = text.lower()
        if not _EMAIL.fullmatch(text):
            raise InvalidField("email_form", f"{text[:80]!r} is not an e-mail address")
        if len(text) > self.max_length:
            raise InvalidField("too_long", f"{len(text)} characters, at most {self.max_length} fit")
        return text
