"""Streams of the lag are bounded from the moment that they are granted, however many are asked for at once."""

from typing import Any, cast

import pytest

from api.endpoints import lag
from api.endpoints.lag import MOST_STREAMS, stream
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
    granted = [await stream(watch) for _ in range(MOST_STREAMS)]
    with pytest.raises(ProblemAnswer):
        await stream(watch)

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None: ...

    await cast("Any", granted[0])({"type": "http", "asgi": {"spec_version": "2.0"}}, gone, send)
    assert watch.streams == MOST_STREAMS - 1
    await stream(watch)
