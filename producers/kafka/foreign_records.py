"""Messages of somebody else's topic as records of ours: key, headers and deletes carried over. Pure."""

from typing import cast

from confluent_kafka import Message

from producers.record_key import LONGEST_KEY, JsonRecordKey, RecordKey
from producers.source import RecordHeaders, SourceDescription, SourceRecord
from schemas.events import HEADER_CONTENT_TYPE, HEADER_ORIGIN
from schemas.text import unmarked

OURS = ("headrace-", "ce_")
"""Headers that say something of the raw record itself; a foreign one must not pass for it."""


class ForeignRecords:
    """Turns messages into records of one source."""

    def __init__(self, source: SourceDescription) -> None:
        self._json_key = JsonRecordKey(source)
        self._key = RecordKey(source)

    def of(self, message: Message) -> SourceRecord:
        """The record. Its value is untouched; its key is the dataset's, from the value, else the message's own.

        A message without a value deletes: the id is its key, as text or as a JSON object with the key's members.
        """
        value, own = message.value(), message.key()
        headers = _headers(message)
        if value is None:
            return SourceRecord(None, self._deleted(own), None, headers)
        key = self._json_key.of(value)
        return SourceRecord(value, _text(own) if key is None else key, None, headers)

    def _deleted(self, own: bytes | None) -> str | None:
        if own is None:
            return None
        own = unmarked(own)
        if own.lstrip()[:1] == b"{":
            return self._json_key.of(own) or _text(own)
        # The last part of our key identifies the record within its source, as the source's own key does.
        return self._key.of_id(own.decode("utf-8", "replace")) or _text(own)


def _headers(message: Message) -> RecordHeaders:
    given = cast("list[tuple[str, str | bytes | None]]", message.headers() or [])
    place = f"{message.topic()}:{message.partition()}:{message.offset()}"
    kept = tuple(
        (name, value.encode() if isinstance(value, str) else value)
        for name, value in given
        if not name.startswith(OURS) and name != HEADER_CONTENT_TYPE
    )
    return (*kept, (HEADER_ORIGIN, place.encode()))


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "replace")[:LONGEST_KEY]
