"""The kept lag in Postgres, where many ask for it at once."""

import asyncio
from typing import Any

import pytest

from runtime.settings import load_settings
from stores.lag_samples import LagSamples


class Connection:
    """A connection that is refused a second statement while the first is on its way, as asyncpg's are."""

    busy = False
    closed = False

    async def fetch(self, *_: Any) -> list[Any]:
        assert not self.busy
        self.busy = True
        await asyncio.sleep(0)
        self.busy = False
        return []

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True


async def test_many_who_ask_at_once_share_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Connection] = []

    async def connect(*_: Any, **__: Any) -> Connection:
        await asyncio.sleep(0)
        made.append(Connection())
        return made[-1]

    monkeypatch.setattr("stores.lag_samples.asyncpg.connect", connect)
    samples = LagSamples(load_settings())
    assert await asyncio.gather(*(samples.history("g", 1.0) for _ in range(50))) == [[]] * 50
    assert len(made) == 1
    await samples.close()
    assert made[0].closed
