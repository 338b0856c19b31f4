"""The reader of all groups, where its connection is lost and where others have odd groups."""

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.errors import KafkaError as ClientError
from confluent_kafka import KafkaException

from monitoring.group_requests import FetchOffsets, ListGroups
from monitoring.groups_reader import GroupsReader, members_of
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


ASSIGNED = b"\x00\x00" + b"\x00\x00\x00\x01" + b"\x00\x01t" + b"\x00\x00\x00\x02" + bytes(7) + b"\x01" + bytes(4)
"""Partitions 0 and 1 of the topic t, without user data."""


@pytest.mark.parametrize(
    "odd",
    [
        b"\x00",
        b"any text that is no assignment",
        b"\x00\x00" + b"\x00\x00\x00\x01" + b"\x00\x01\xff" + b"\x00\x00\x00\x00" + bytes(4),
        b"\x00\x00" + b"\xff\xff\xff\xff" + bytes(4),
    ],
    ids=["short", "text", "not UTF-8", "null"],
)
def test_an_assignment_that_cannot_be_read_is_left_out(odd: bytes) -> None:
    members = [("odd", "c", "/10.0.0.1", b"", odd), ("fine", "c", "/10.0.0.2", b"", ASSIGNED)]
    assert members_of(members) == {("t", 0): "fine 10.0.0.2", ("t", 1): "fine 10.0.0.2"}


class Broker:
    """A broker with the group `ours` and one of somebody else."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes

    async def send(self, _: int, request: Any) -> Any:
        match request:
            case ListGroups():
                groups = [(name, "consumer", "Stable", "") for name in self.codes]
                return SimpleNamespace(error_code=0, groups=groups)
            case FetchOffsets():
                rows: list[Any] = [("t", [(0, 5, -1, "", 0, {})], {})]
                return SimpleNamespace(groups=[(name, rows, code, {}) for name, code in self.codes.items()])
        return SimpleNamespace(groups=[])


NOT_ALLOWED, NOT_COORDINATOR = 30, 16


@pytest.mark.parametrize("code", [NOT_ALLOWED, NOT_COORDINATOR])
async def test_a_group_of_others_that_may_not_be_read_hides_no_other_group(code: int) -> None:
    reader = GroupsReader(load_settings(), {"ours": ["t"]})
    found = await reader._groups(cast("AIOKafkaClient", Broker(ours=0, theirs=code)), [1])
    assert found.committed == {"ours": {("t", 0): 5}}
    assert found.states == {"ours": "Stable"}
    with pytest.raises(ClientError):
        await reader._groups(cast("AIOKafkaClient", Broker(ours=code)), [1])
