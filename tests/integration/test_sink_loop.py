"""The loop of the sinks, on a real broker: when it polls, writes and commits."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

import pytest

from monitoring.lag import read_lag
from runtime.settings import Settings
from sinks.runner import Runner
from sinks.sink import Message
from tests.integration.sink_events import change, publish, running
from tests.waiting import eventually_async

TOPIC = "customers.changed"


class Gate:
    """A sink that writes when it is let, and remembers the batches that it has prepared and written."""

    name = "redis"
    paused: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.prepared: list[int] = []
        self.written: list[int] = []
        self.wrote: Callable[[], None] = lambda: None

    async def setup(self) -> None:
        """There is nothing to set up."""

    def prepare(self, messages: Sequence[Message]) -> int:
        self.prepared.append(len(messages))
        return len(messages)

    async def write(self, batch: int) -> Awaitable[None] | None:
        await self.open.wait()
        self.written.append(batch)
        self.wrote()
        return None

    async def close(self) -> None:
        """There is nothing to close."""


async def committed(settings: Settings) -> int:
    rows = await read_lag(settings)
    group, topic = settings.named("sink-redis"), settings.named(TOPIC)
    return sum(row.committed or 0 for row in rows if (row.group, row.topic) == (group, topic))


def send(settings: Settings, count: int) -> None:
    publish(settings, TOPIC, *[change(f"C{number}", 1) for number in range(count)])


async def reaches(records: int, batches: list[int]) -> None:
    async def enough() -> bool:
        return sum(batches) >= records

    await eventually_async(enough, what=f"{records} records")


async def test_under_backlog_the_next_batch_is_prepared_while_one_is_written(pipeline_settings: Settings) -> None:
    settings = pipeline_settings.model_copy(update={"sink_batch_records": 3})
    send(settings, 8)
    sink = Gate()
    async with running(sink, settings):
        await reaches(6, sink.prepared)
        assert sink.written == []
        sink.open.set()
        await reaches(8, sink.written)


async def test_what_comes_while_a_batch_that_was_not_full_is_written_is_polled_afterwards(
    pipeline_settings: Settings,
) -> None:
    sink = Gate()
    async with running(sink, pipeline_settings):
        send(pipeline_settings, 1)
        await reaches(1, sink.prepared)
        send(pipeline_settings, 6)
        assert sink.prepared == [1]
        sink.open.set()
        await reaches(7, sink.written)


async def test_what_is_confirmed_is_committed_when_nothing_more_comes(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.runner.COMMIT_EVERY_SECONDS", 1e9)
    sink = Gate()
    sink.open.set()
    async with running(sink, pipeline_settings):
        send(pipeline_settings, 2)

        async def both() -> bool:
            return await committed(pipeline_settings) == 2

        await eventually_async(both, what="both are committed")


async def test_what_is_confirmed_is_committed_when_the_sink_stops(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.runner.COMMIT_EVERY_SECONDS", 1e9)
    settings = pipeline_settings.model_copy(update={"sink_batch_records": 2})
    send(settings, 5)
    sink = Gate()
    sink.open.set()
    runner = Runner(sink, settings)
    sink.wrote = runner.stop
    await runner.run()
    assert sink.written == [2]
    assert await committed(settings) == 2, "what was written, and not what was only polled"


async def test_a_sink_is_healthy_once_it_reads_as_a_member_of_its_group(pipeline_settings: Settings) -> None:
    sink = Gate()
    assert "not begun to read" in Runner(sink, pipeline_settings).health()["problem"]
    async with running(sink, pipeline_settings) as runner:

        async def healthy() -> bool:
            return "problem" not in runner.health()

        await eventually_async(healthy, what="it is healthy")
        assert len(runner.health()["assigned"]) >= pipeline_settings.topic_partitions
