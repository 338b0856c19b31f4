"""Customers as sources send them: all their values vary, and the same seed gives the same customers."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

FIRST_NAMES = (
    "Ada",
    "Alan",
    "Barbara",
    "Dennis",
    "Donald",
    "Edsger",
    "Frances",
    "Grace",
    "Jean",
    "John",
    "Jörg",
    "Katherine",
    "Ken",
    "Leslie",
    "Łucja",
    "Margaret",
    "Noël",
    "Radia",
)
LAST_NAMES = (
    "Allen",
    "Backus",
    "Bartik",
    "Dijkstra",
    "Goldberg",
    "Hamilton",
    "Hopper",
    "Johnson",
    "Knuth",
    "Lamport",
    "Liskov",
    "Müller",
    "O'Brien",
    "Perlman",
    "Ritchie",
    "Turing",
    "Wirth",
)
STREETS = ("Long Street", "Mill Lane", "Rue des Écoles", "Hauptstraße", "Via Roma", "Station Road", "High Street")
TOWNS = ("Springfield", "Zürich", "Łódź", "Lyon", "Porto", "Graz", "Leeds", "Bergen", "Salem", "Dover")


class Raw(NamedTuple):
    """A consumed record as the normalizer reads it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


def customers(count: int, tag: str, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """So many raw records, each with its key. Keys and e-mail addresses begin with `tag`, so no two tags collide."""
    pick = random.Random(seed)
    for number in range(count):
        key, street = f"{tag}{number:08}", f"{pick.randint(1, 999)} {pick.choice(STREETS)}"
        record = {
            "customer_id": key,
            "first_name": f" {pick.choice(FIRST_NAMES)} ",
            "last_name": pick.choice(LAST_NAMES),
            "email": f"{tag}{number}.{pick.randrange(100)}@Example.com",
            "phone": f"+1 ({pick.randint(201, 989)}) {pick.randint(200, 999)}-{pick.randint(1000, 9999)}",
            "address": f"{street}, {pick.randint(10_000, 99_999)} {pick.choice(TOWNS)}",
            "date_of_birth": f"{pick.randint(1940, 2005)}-{pick.randint(1, 12):02}-{pick.randint(1, 28):02}",
            "account_balance": f"{pick.randint(0, 99_999)}.{pick.randint(0, 99):02}",
        }
        yield key.encode(), msgspec.json.encode(record)
