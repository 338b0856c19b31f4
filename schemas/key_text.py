"""The field type of keys: one record is one, however its id was copied, and however long the id is."""

import hashlib
from dataclasses import dataclass

from schemas.errors import InvalidField
from schemas.fields import Text
from schemas.text import tidy
from schemas.unicode_forms import UNSEEN

SHORTEST_HASH = 16
"""Characters, of four bits each: with fewer, two ids of millions might get one hash."""


@dataclass(frozen=True)
class KeyText(Text):
    """Text of which only what people see counts: without marks, joiners and the like. In a dataset's key, Text is this.

    One that is too long for its column becomes its SHA-256 in hex, cut to the column.
    """

    def normalize(self, value: object) -> str | None:
        text = tidy(value, None, UNSEEN)
        longest = self.max_length
        if text is None or longest is None or len(text) <= longest:
            return text
        if longest < SHORTEST_HASH:
            raise InvalidField("too_long", f"{len(text)} characters, at most {longest} fit")
        return hashlib.sha256(text.encode()).hexdigest()[:longest]
