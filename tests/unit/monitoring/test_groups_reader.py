"""The reader of all groups, where its connection is lost."""

from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from confluent_kafka import KafkaException

from monitoring.groups_reader import GroupsReader
from monitoring.samples import Sample
from runtime.settings import load_settings


class Open:
    """An open client."""

    closed = False

    async def close(self) -> None:
        self.closed = True


def fails(times: int) -> Callable[[bool], Coroutine[Any, Any, Sample]]:
    """A look that finds the connection closed so many times."""
    left = [KafkaConnectionError("closed")] * times

    async def look(_: bool) -> Sample:
        if left:
            raise left.pop()
        return Sample(1.0, {})

    return look


async def test_a_connection_that_was_lost_is_made_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, client = GroupsReader(load_settings(), {}), Open()
    monkeypatch.setattr(reader, "_client", cast("AIOKafkaClient", client))
    monkeypatch.setattr(reader, "_read", fails(1))
    assert (await reader.read()).at == 1.0
    assert client.closed


@pytest.mark.parametrize(("client", "times"), [(None, 1), (Open(), 2)])
async def test_a_broker_that_does_not_answer_again_either_is_away(
    client: Open | None, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = GroupsReader(load_settings(), {})
    monkeypatch.setattr(reader, "_client", client)
    monkeypatch.setattr(reader, "_read", fails(times))
    with pytest.raises(KafkaException, match="closed"):
        await reader.read()
