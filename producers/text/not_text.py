"""Files that are no text, by their first bytes."""

_BINARY = {
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


def binary_kind(beginning: bytes) -> str | None:
    """Name of what begins so and can be no text; None for what can."""
    return next((what for magic, what in _BINARY.items() if beginning.startswith(magic)), None)


def file_kind(beginning: bytes) -> str | None:
    """The same, also for what might be the first letters of a text that is no JSON."""
    like_text = (what for magic, what in _LIKE_TEXT.items() if beginning.startswith(magic))
    return binary_kind(beginning) or next(like_text, None)
