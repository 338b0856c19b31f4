"""The files that are served; each record keeps the bytes that it has on disk."""

from pathlib import Path

import msgspec

DATA_FOLDER = Path(__file__).parent / "data"
SAMPLE_CUSTOMERS_FILE = DATA_FOLDER / "sample_customers.json"
"""Written by hand; the first records of the customers file."""
CUSTOMERS_FILE = DATA_FOLDER / "customers.json"
POSTS_FILE = DATA_FOLDER / "posts.json"

_RECORDS = msgspec.json.Decoder(list[msgspec.Raw])


class DataFileError(Exception):
    """A data file is missing or is not what the server can serve; the message names the file and the way out."""


def read_records(path: Path) -> list[bytes]:
    """The records of a JSON array, each as its own encoded bytes. Blocks; raises DataFileError."""
    try:
        return [bytes(record) for record in _RECORDS.decode(path.read_bytes())]
    except (OSError, msgspec.DecodeError) as error:
        raise DataFileError(f"Cannot read {path}: {error}. Write it again: python -m mock_server.generate") from error
