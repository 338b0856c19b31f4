"""The customers in memory: read from disk once, changed by requests, put back by a reset; never written."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mock_server.answers import Refusal
from mock_server.data_files import DataFileError

KEY = "customer_id"


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
                raise DataFileError(f"Customer number {position + 1} has no usable {KEY}: {error}") from error
            if self._position.setdefault(customer_id, position) != position:
                raise DataFileError(f"Two customers have the {KEY} {customer_id!r}")

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
