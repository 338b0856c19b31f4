"""A store has caught up once its group is past all that was written, also past what an open transaction held."""

from collections.abc import Sequence

import pytest

import services.audits.deep_audit
from monitoring.lag import PartitionLag
from runtime.patience import Patience
from runtime.settings import Settings
from services.audits.deep_audit import _passed


def looks(monkeypatch: pytest.MonkeyPatch, *rows: PartitionLag) -> None:
    """What one look after the other finds; the last one for ever."""
    left = list(rows)

    async def read_lag(_: Settings) -> Sequence[PartitionLag]:
        return [left.pop(0) if len(left) > 1 else left[0]]

    monkeypatch.setattr(services.audits.deep_audit, "read_lag", read_lag)


def row(committed: int, end: int, held: int = 0) -> PartitionLag:
    return PartitionLag("sink-redis", "users.changed", 0, committed, end, end - committed, held)


async def passed(seconds: float) -> bool:
    return await _passed(Settings(), "sink-redis", "users.changed", Patience(seconds))


async def test_a_group_at_the_end_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, row(10, 10))
    assert await passed(0)


async def test_a_group_in_front_of_an_open_transaction_has_not_passed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, row(10, 10, held=3))
    assert not await passed(0)
    looks(monkeypatch, row(10, 10, held=3), row(10, 14), row(14, 20))
    assert await passed(60)


async def test_records_that_retention_deleted_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, PartitionLag("sink-redis", "users.changed", 0, committed=4, end=10, lag=0))
    assert await passed(0)
