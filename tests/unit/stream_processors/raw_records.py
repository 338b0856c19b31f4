"""Raw records as a consumer hands them over, and a producer that needs no broker."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message


class RawRecord(NamedTuple):
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    key: bytes | None = b"key"
    topic: str = "customers.raw"
    partition: int = 3
    offset: int = 42
    timestamp: int = 1_700_000_000_000


CUSTOMER: dict[str, Any] = {
    "customer_id": "CUST001",
    "first_name": " Anna ",
    "last_name": "Meyer",
    "email": "Anna.Meyer@Example.com",
    "phone": "0049 30 1234567",
    "date_of_birth": "31.1.1980",
    "account_balance": 12.5,
}


def customer(**changes: Any) -> bytes:
    return msgspec.json.encode(CUSTOMER | changes)


class Produced(NamedTuple):
    topic: str
    value: bytes
    key: bytes | None
    partition: int


class RecordingProducer:
    """Keeps what is produced; `answer` serves the delivery callbacks, in order, as `poll` would."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.produced: list[Produced] = []
        self.full_errors = 0
        self._room = room
        self._callbacks: list[Callable[..., None]] = []

    def produce(
        self, topic: str, value: bytes, key: bytes | None, partition: int, on_delivery: Callable[..., None]
    ) -> None:
        if len(self._callbacks) >= self._room:
            self.full_errors += 1
            raise BufferError("queue full")
        self.produced.append(Produced(topic, value, key, partition))
        self._callbacks.append(on_delivery)

    def answer(self, count: int | None = None, error: object = None) -> None:
        answered = self._callbacks[:count]
        del self._callbacks[:count]
        for callback in answered:
            callback(error, Message(topic="clean", partition=0, offset=7))
