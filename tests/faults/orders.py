"""Orders for the interleavings, and what must become of them: a plain model that shares no code with the pipeline."""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.faults.oracle import Content, Place, Rejected
from tests.faults.workload import encoded


def order(key: str, number: int) -> dict[str, Any]:
    """A well-formed order whose fields tell the number of the record that brought them."""
    content: dict[str, Any] = {
        "order_id": key,
        "customer_id": f"C{number}",
        "product": f"Product {number}",
        "price": f"{number}.50",
        "order_date": "2024-02-29",
    }
    return content | ({"quantity": str(number + 1)} if number else {})


SPOILS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (
    lambda good: good | {"order_date": ""},
    lambda good: good | {"order_date": "2023-02-29"},
    lambda good: good | {"price": "-1"},
    lambda good: good | {"price": "1.999"},
    lambda good: good | {"quantity": "0"},
    lambda good: good | {"quantity": "1.5"},
)


def spoilt(key: str, number: int) -> bytes:
    """A record that must fail, whatever order it pretends to be."""
    return encoded(SPOILS[number % len(SPOILS)](order(key, number)))


@dataclass
class FirstWinsOracle:
    """The model: of each key the oldest record after its latest delete. Remembers all, so any order of feeding does."""

    records: dict[str, dict[Place, Content | None]] = field(default_factory=lambda: defaultdict(dict))
    rejected: set[tuple[int, int]] = field(default_factory=set)

    def feed(self, place: Place, key: bytes, value: bytes | None) -> None:
        """Take a raw record in."""
        try:
            self.records[key.decode()][place] = None if value is None else _content(value)
        except Rejected:
            self.rejected.add(place[1:])

    def rows(self) -> dict[str, Content]:
        """Every order that must exist, by id, with all fields."""
        rows = {}
        for key, records in self.records.items():
            deleted = max((place for place, content in records.items() if content is None), default=Place(-1, -1, -1))
            alive = {place: content for place, content in records.items() if content is not None and place > deleted}
            if alive:
                rows[key] = alive[min(alive)]
        return rows


def _content(value: bytes) -> Content:
    given: Content = json.loads(value)
    quantity = given.get("quantity", "1")
    if given["order_date"] != "2024-02-29" or not re.fullmatch(r"[0-9]\.50", given["price"]):
        raise Rejected("an invalid date or price")
    if not re.fullmatch("[1-9]", quantity):
        raise Rejected("an invalid quantity")
    return given | {"quantity": int(quantity), "price": Decimal(given["price"])}
