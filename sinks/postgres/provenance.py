"""Which raw record a message came from, read even where the rest of the message cannot be.

A message of another declaration (a rolled back deploy, a rolling upgrade) has the envelope that all have. What has no
readable origin among our raw topics is foreign: nobody's record, and in nobody's books.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from schemas.errors import HOSTILE
from schemas.events import Origin
from stores.epochs import real_partition

LARGEST = 2**62
"""Of an offset or a time: what is larger no broker gave, and Postgres cannot count on from."""


class Envelope(msgspec.Struct, frozen=True):
    """What clean records and failed records have in common, of any version. Only the origin is certain."""

    origin: Origin
    key: Any = None
    source: Any = None
    kind: Any = None
    run: Any = None
    data: msgspec.Raw = msgspec.Raw(b"")
    payload: Any = None

    def text(self, name: str) -> str | None:
        """A member, if it is text."""
        value = getattr(self, name)
        return value if isinstance(value, str) else None


_decode = msgspec.json.Decoder(Envelope).decode


def read_envelope(value: bytes | None) -> Envelope | None:
    """The envelope of a message, None if it has none. Pure."""
    try:
        return _decode(value or b"")
    except HOSTILE:
        return None


def is_ours(origin: Origin, topics: Collection[str], partition: int) -> bool:
    """Whether a message of this partition may come from there. Pure.

    `topics` are our physical raw topics. Stages write to the partition that they read from, so the numbers are equal;
    of an ended epoch both are archived (`stores/epochs.py`).
    """
    if not (0 <= origin.offset < LARGEST and -1 <= origin.timestamp < LARGEST):
        return False
    if origin.topic in topics:
        return origin.partition == partition
    topic, _, epoch = origin.topic.partition("@")
    return (
        topic in topics and epoch.isdecimal() and origin.partition < 0 and real_partition(origin.partition) == partition
    )
