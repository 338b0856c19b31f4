"""Records that the fault tests publish: customers that come, change, go and come again, with garbage between them.

Deterministic by its seed. Some customers, the movers, swap their e-mail addresses all the time. Which of two that want
one address gets it depends on the order in which Postgres sees them, so the load must end with the `closing` records:
they give each mover an address of its own, and whatever was lost or aborted before, the source is consistent.
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


class Workload(Iterator[Sent]):
    """So many records of so many customers, the closing ones counted in."""

    def __init__(self, records: int, customers: int, seed: int, movers: int = 40) -> None:
        keys = [f"C{number:06}" for number in range(movers)]
        self._chance = random.Random(seed)
        self._addresses = {key: key for key in keys}
        self._records = self._made(records - movers, customers)

    def __next__(self) -> Sent:
        return next(self._records)

    def closing(self) -> list[Sent]:
        """To be published last, and surely: a record of each mover."""
        keys = list(self._addresses)
        owners = self._chance.sample(keys, len(keys))
        return [
            Sent(key.encode(), encoded(customer(key, number, owner)))
            for number, (key, owner) in enumerate(zip(keys, owners, strict=True))
        ]

    def _made(self, records: int, customers: int) -> Iterator[Sent]:
        chance, addresses = self._chance, self._addresses
        recent: list[Sent] = []
        for number in range(records):
            key = f"C{chance.randrange(customers):06}"
            if key in addresses:
                other = chance.choice(list(addresses))
                addresses[key], addresses[other] = addresses[other], addresses[key]
            drawn = chance.random()
            if drawn < GARBAGE_SHARE:
                sent = Sent(key.encode(), chance.choice(GARBAGE)(key))
            elif drawn < GARBAGE_SHARE + DELETED_SHARE:
                sent = Sent(key.encode(), None)
            elif drawn < GARBAGE_SHARE + DELETED_SHARE + DUPLICATE_SHARE and recent:
                sent = chance.choice(recent)
            else:
                sent = Sent(key.encode(), encoded(customer(key, number, addresses.get(key, key))))
            recent = [*recent[-99:], sent]
            yield sent


def customer(key: str, number: int, address: str | None = None) -> dict[str, Any]:
    """A well-formed customer whose fields tell the number of the record that brought them."""
    return {
        "customer_id": key,
        "first_name": f" Ada {number}",
        "last_name": "Ångström",
        "email": f"{address or key}@Example.org",
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
