"""Load on a stack in containers: customers into their raw topic, and users through the API, until it is told to end."""

import threading
import time
from types import TracebackType
from typing import Self

import httpx
import msgspec
from confluent_kafka import Producer

from runtime.kafka.clients import QUIET

BURST = 500
"""Customers at once."""

PAUSE_SECONDS = 0.1


class Load:
    """Counts what the broker confirmed and what the API accepted; one that is away meanwhile is asked again."""

    def __init__(self, bootstrap_servers: str, api_url: str) -> None:
        self.customers = 0
        self.users = 0
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "enable.idempotence": True, "log_level": QUIET}
        )
        self._api_url = api_url
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        sent = 0
        with httpx.Client(base_url=self._api_url, trust_env=False, timeout=5.0) as api:
            while not self._ending.is_set():
                for number in range(sent, sent + BURST):
                    self._producer.produce("customers.raw", key=_key(number), value=_customer(number))
                sent += BURST
                assert self._producer.flush(60) == 0
                self.customers = sent
                try:
                    user = {"name": f"Lou {sent}", "email": f"lou{sent}@example.org", "role": "load"}
                    self.users += api.post("/users/", json=user).is_success
                except httpx.HTTPError:
                    pass
                time.sleep(PAUSE_SECONDS)


def _key(number: int) -> bytes:
    return f"LOAD-{number:07}".encode()


def _customer(number: int) -> bytes:
    return msgspec.json.encode(
        {
            "customer_id": _key(number).decode(),
            "first_name": "Lou",
            "last_name": f"Number {number}",
            "email": f"lou{number}@example.org",
            "account_balance": number / 100,
        }
    )
