"""Streams of the lag are bounded from the moment that they are granted, however many are asked for at once."""

from typing import Any, cast

import pytest
from fastapi import Request

from api.access import AGAIN, Caller, Scope
from api.endpoints import lag
from api.endpoints.lag import MOST_STREAMS, MOST_STREAMS_A_CALLER, stream
from api.problems import ProblemAnswer
from monitoring.watching import LagWatch
from runtime.settings import load_settings


async def test_a_burst_does_not_pass_the_bound_and_a_stream_that_ends_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def event(_: LagWatch) -> tuple[str, object, str]:
        return "lag", 0, "{}"

    monkeypatch.setattr(lag, "_event", event)
    watch = LagWatch(load_settings())
    first, second, third = map(asked_from, ("10.0.0.1", "10.0.0.2", "10.0.0.3"))
    granted = [await stream(watch, first) for _ in range(MOST_STREAMS_A_CALLER)]
    with pytest.raises(ProblemAnswer, match="of yours"):
        await stream(watch, first)
    granted += [await stream(watch, second) for _ in range(MOST_STREAMS - MOST_STREAMS_A_CALLER)]
    with pytest.raises(ProblemAnswer, match="one process"):
        await stream(watch, third)

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None: ...

    await cast("Any", granted[0])({"type": "http", "asgi": {"spec_version": "2.0"}}, gone, send)
    assert watch.streams.total() == MOST_STREAMS - 1
    await stream(watch, first)


@pytest.mark.parametrize("scopes", [frozenset(), frozenset({Scope.WRITE})], ids=["revoked", "may no longer read"])
async def test_a_stream_ends_when_its_key_does(monkeypatch: pytest.MonkeyPatch, scopes: frozenset[Scope]) -> None:
    events = 0

    async def event(_: LagWatch) -> tuple[str, object, str]:
        nonlocal events
        events += 1
        return "lag", events, "{}"

    async def again(_: Any) -> tuple[Caller, None]:
        return Caller("shop", frozenset({Scope.READ}) if events < 3 else scopes), None

    monkeypatch.setattr(lag, "_event", event)
    monkeypatch.setattr(lag, "EVENT_SECONDS", 0.0)
    answer = cast("Any", await stream(LagWatch(load_settings()), asked_from("10.0.0.1", again)))
    assert len([piece async for piece in answer.body_iterator]) == events == 3


def asked_from(address: str, again: Any = None) -> Request:
    return Request({"type": "http", "client": (address, 1), **({AGAIN: again} if again else {})})
