"""What the fault tests publish: customers that come, change, go and come again, with garbage between them.

Deterministic by its seed. E-mail addresses are the customer's own: which of two customers gets an address that both
claim depends on the order in which Postgres sees them (decision 0003), and is tested elsewhere.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

DELETED_SHARE, DUPLICATE_SHARE, GARBAGE_SHARE = 0.05, 0.05, 0.02

ENDLESS = 2**62
"""Records, for a test that stops when it has seen enough."""


class Sent(NamedTuple):
    """A record to publish."""

    key: bytes
    value: bytes | None


def workload(records: int, customers: int, seed: int) -> Iterator[Sent]:
    """So many records of so many customers."""
    chance = random.Random(seed)
    recent: list[Sent] = []
    for number in range(records):
        key = f"C{chance.randrange(customers):06}"
        drawn = chance.random()
        if drawn < GARBAGE_SHARE:
            sent = Sent(key.encode(), chance.choice(GARBAGE)(key))
        elif drawn < GARBAGE_SHARE + DELETED_SHARE:
            sent = Sent(key.encode(), None)
        elif drawn < GARBAGE_SHARE + DELETED_SHARE + DUPLICATE_SHARE and recent:
            sent = chance.choice(recent)
        else:
            sent = Sent(key.encode(), encoded(customer(key, number)))
        recent = [*recent[-99:], sent]
        yield sent


def customer(key: str, number: int) -> dict[str, Any]:
    """A well-formed customer whose fields tell the number of the record that brought them."""
    return {
        "customer_id": key,
        "first_name": f" Ada {number}",
        "last_name": "Ångström",
        "email": f"{key}@Example.org",
        "phone": f"+4930{number % 10**8:08}" if number % 3 else None,
        "address": f'{number} O\'Connell St, 100% \\ "here"',
        "date_of_birth": f"19{number % 100:02}-0{number % 9 + 1}-28",
        "account_balance": number / 100,
    }


def encoded(value: Any) -> bytes:
    """As JSON, with the characters as they are."""
    return json.dumps(value, ensure_ascii=False).encode()


def _spoilt(**fields: Any) -> Callable[[str], bytes]:
    return lambda key: json.dumps(customer(key, 1) | fields).encode()


GARBAGE: tuple[Callable[[str], bytes], ...] = (
    lambda _: b"\x00\xff\xfe",
    lambda _: b'{"customer_id": "C',
    lambda _: b"",
    lambda _: b"[1, 2, 3]",
    lambda _: b'"C000001"',
    lambda key: encoded(customer(key, 1)).replace(b"19", b"\xc3\x28", 1),
    lambda key: b'{"customer_id": "x", ' + encoded(customer(key, 1))[1:],
    lambda _: b"[" * 100_000,
    _spoilt(email=None),
    _spoilt(email="nobody"),
    _spoilt(first_name="   "),
    _spoilt(first_name=["Ada"]),
    _spoilt(last_name="x" * 101),
    _spoilt(last_name="NUL \x00"),
    _spoilt(address="half of a pair: \ud83d"),
    _spoilt(date_of_birth="2024-02-31"),
    _spoilt(account_balance=10**13),
    _spoilt(account_balance={"amount": 1}),
)
"""Each makes a record that must fail, whatever customer it pretends to be."""
