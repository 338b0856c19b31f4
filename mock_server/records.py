"""The records that are served: read from disk once as encoded bytes; customers change in memory only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mock_server.answers import Refusal

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


class _Keyed(msgspec.Struct):
    customer_id: str


class CustomerStore:
    """Customers in the order of the file, each kept encoded, so that a page is a join of bytes.

    Not for use from several threads; no method waits, so requests on one event loop see whole changes.
    """

    def __init__(self, records: Sequence[bytes]) -> None:
        """Raises DataFileError if a record has no `customer_id` or two share one."""
        self._original = tuple(records)
        self._current = list(records)
        self._position: dict[str, int] = {}
        decoder = msgspec.json.Decoder(_Keyed)
        for position, record in enumerate(records):
            try:
                customer_id = decoder.decode(record).customer_id
            except msgspec.DecodeError as error:
                raise DataFileError(f"Customer number {position + 1} has no usable customer_id: {error}") from error
            if self._position.setdefault(customer_id, position) != position:
                raise DataFileError(f"Two customers have the customer_id {customer_id!r}")

    def __len__(self) -> int:
        return len(self._current)

    def page(self, page: int, limit: int) -> bytes:
        """`{data,total,page,limit,total_pages}` as JSON; `data` is empty past the last page. Pages count from 1."""
        total = len(self._current)
        start = (page - 1) * limit
        data = b",".join(self._current[start : start + limit])
        total_pages = -(-total // limit)
        form = b'{"data":[%b],"total":%d,"page":%d,"limit":%d,"total_pages":%d}'
        return form % (data, total, page, limit, total_pages)

    def get(self, customer_id: str) -> bytes:
        """One customer as JSON. Raises Refusal."""
        return self._current[self._find(customer_id)]

    def change(self, customer_id: str, changes: Mapping[str, object]) -> bytes:
        """Set the given fields, keep the others, and return the customer as it is now. Raises Refusal."""
        position = self._find(customer_id)
        customer: dict[str, Any] = msgspec.json.decode(self._current[position])
        self._current[position] = msgspec.json.encode(customer | dict(changes))
        return self._current[position]

    def reset(self) -> None:
        """Put every customer back to what the file said."""
        self._current = list(self._original)

    def _find(self, customer_id: str) -> int:
        if customer_id not in self._position:
            raise Refusal(404, "not_found", f"No customer has the id {customer_id!r}")
        return self._position[customer_id]
