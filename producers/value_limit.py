"""The largest value that is published; a larger one is cut and becomes a failure."""

from producers.source import SourceRecord

LARGEST_VALUE_BYTES = 5 * 1_048_576
"""A larger one would not fit into the envelope of a failure (base64, see MAX_MESSAGE_BYTES)."""

KEPT_OF_LARGE_VALUE_BYTES = 65_536


def fitting(record: SourceRecord) -> SourceRecord:
    """The record itself; of one that is too large its beginning, marked so that it becomes a failure. Pure."""
    value = record.value
    if value is None or len(value) <= LARGEST_VALUE_BYTES:
        return record
    kept = value[:KEPT_OF_LARGE_VALUE_BYTES]
    message = f"{len(value):,} bytes, at most {LARGEST_VALUE_BYTES:,} are taken; the first {len(kept):,} are kept"
    return SourceRecord(kept, record.key, f"record_too_large;{message}", record.headers)
