"""The final state as it must be: a plain model of one dataset, fed with raw records in any order, any number of times.

It shares no code with the pipeline. It knows customers as the workload makes them: what is well formed is written in
its normal form (but for white space around text and capitals in e-mail addresses), what is not is plainly wrong.
"""

import datetime
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

Content = dict[str, Any]

TEXTS = {"customer_id": 50, "first_name": 100, "last_name": 100, "email": 255, "address": None}
REQUIRED = ("customer_id", "first_name", "last_name", "email")
LARGEST_BALANCE = Decimal(10) ** 13


class Rejected(Exception):
    """The record must end in `failures`."""


class Place(NamedTuple):
    """Where a raw record lies. In this order records of different partitions count: see decision 0003."""

    timestamp: int
    partition: int
    offset: int


@dataclass
class Oracle:
    """The model. Feeding a record twice, or an older one later, changes nothing."""

    latest: dict[str, tuple[Place, Content | None]] = field(default_factory=dict)
    """By key: the newest record's place and content; None if it deletes."""
    rejected: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset of what must be in `failures`."""
    accepted: set[tuple[int, int]] = field(default_factory=set)

    def feed(self, place: Place, key: bytes | None, value: bytes | None) -> None:
        """Take a raw record in."""
        try:
            name, content = self._judge(key, value)
        except Rejected:
            self.rejected.add(place[1:])
            return
        self.accepted.add(place[1:])
        known = self.latest.get(name)
        if known is None or _newer(place, known[0]):
            self.latest[name] = place, content

    def rows(self) -> dict[str, Content]:
        """Every customer that must exist, by id, with all fields."""
        return {key: content for key, (_, content) in self.latest.items() if content is not None}

    def deleted(self) -> set[str]:
        """Keys that must not exist although they were heard of."""
        return {key for key, (_, content) in self.latest.items() if content is None}

    def _judge(self, key: bytes | None, value: bytes | None) -> tuple[str, Content | None]:
        if value is None:
            if not key:
                raise Rejected("deletes nothing")
            return key.decode(), None
        content = customer(value)
        return content["customer_id"], content


def customer(value: bytes) -> Content:
    """The customer in a raw value, in normal form. Raises Rejected."""
    try:
        given = json.loads(value.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Rejected(str(error)) from None
    if not isinstance(given, dict):
        raise Rejected("not an object")
    content: Content = {name: _text(given.get(name), limit) for name, limit in TEXTS.items()}
    content["email"] = content["email"] and content["email"].lower()
    content["phone"] = _text(given.get("phone"), None)
    content["date_of_birth"] = _date(given.get("date_of_birth"))
    content["account_balance"] = _money(given.get("account_balance"))
    if any(content[name] is None for name in REQUIRED):
        raise Rejected("a required field is missing")
    if "@" not in content["email"]:
        raise Rejected("no e-mail address")
    return content


def _newer(place: Place, known: Place) -> bool:
    if place.partition == known.partition:
        return place.offset > known.offset
    return place > known


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise Rejected("a key occurs twice")
    return dict(pairs)


def _refuse(constant: str) -> Any:
    raise Rejected(f"{constant} is no JSON")


def _text(value: Any, limit: int | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Rejected("not a text")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise Rejected("a character that no store holds")
    text = value.strip()
    if limit is not None and len(text) > limit:
        raise Rejected("too long")
    return text or None


def _date(value: Any) -> datetime.date | None:
    text = _text(value, None)
    try:
        return None if text is None else datetime.date.fromisoformat(text)
    except ValueError as error:
        raise Rejected(str(error)) from None


def _money(value: Any) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Rejected("not a number")
    try:
        amount = Decimal(str(value))
    except ArithmeticError as error:
        raise Rejected(str(error)) from None
    if not amount.is_finite() or abs(amount) >= LARGEST_BALANCE:
        raise Rejected("out of range")
    return amount.quantize(Decimal("0.01"))
