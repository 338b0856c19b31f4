"""Verdicts on real processes under load."""

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from confluent_kafka import Producer

from monitoring.groups_reader import GroupsReader
from monitoring.lag import our_groups
from monitoring.verdicts import Verdict
from monitoring.view import GroupView, view_of
from monitoring.window import Window
from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from tests.consumer_groups import commit, produce, topics
from tests.processes import Process
from tests.waiting import eventually_async

PACE_SECONDS = 1.0
"""Between two samples: closer than the monitor's, which changes no verdict."""


class Watched:
    """A group, sampled at PACE_SECONDS."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self._group = group
        self._reader = GroupsReader(settings)
        self._window = Window()
        self.seen: list[GroupView] = []

    async def sample(self) -> None:
        """Sample now."""
        self._window.add(await self._reader.read())
        view = view_of(self._window, our_groups(self._settings), now=time.time())
        assert view is not None
        if group := view.group(self._group):
            self.seen.append(group)

    async def close(self) -> None:
        await self._reader.close()


@asynccontextmanager
async def watched(settings: Settings, group: str) -> AsyncIterator[Watched]:
    """The group is sampled in the background."""
    watch = Watched(settings, group)

    async def sample() -> None:
        while True:
            await watch.sample()
            await asyncio.sleep(PACE_SECONDS)

    task = asyncio.create_task(sample())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await watch.close()


@asynccontextmanager
async def load(settings: Settings, topic: str) -> AsyncIterator[None]:
    """Records come in every partition all the time."""
    producer = Producer(producer_config(settings))

    async def write() -> None:
        for number in itertools.count():
            for partition in range(settings.topic_partitions):
                producer.produce(topic, value=b"%d" % number, key=b"k", partition=partition)
            producer.poll(0)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        producer.flush(20)


async def test_a_sink_that_is_stopped_under_load_is_told_within_half_a_minute_and_is_ok_once_it_goes_on(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    named = pipeline_settings.named
    sink = Process("sink landing", pipeline_settings, tmp_path / "landing.log")
    sink.start()
    try:
        await asyncio.to_thread(sink.wait_until_healthy)
        async with (
            load(pipeline_settings, named("orders.raw")),
            watched(pipeline_settings, named("sink-landing")) as it,
        ):

            async def works() -> bool:
                return bool(it.seen) and bool(it.seen[-1].rate_out) and it.seen[-1].verdict is Verdict.OK

            await eventually_async(works, what="the sink works")
            sink.signal(signal.SIGSTOP)
            stopped_at = it.seen[-1], len(it.seen)

            async def told() -> bool:
                return it.seen[-1].verdict in (Verdict.STALL, Verdict.STOP, Verdict.NO_CONSUMER)

            await eventually_async(told, what="the verdict")
            assert stopped_at[0].waiting < it.seen[-1].waiting
            samples = len(it.seen) - stopped_at[1]
            assert samples * PACE_SECONDS <= 30, "by the clock of the samples, which a busy machine slows down"
            sink.signal(signal.SIGCONT)
            await eventually_async(works, what="it goes on")
    finally:
        sink.kill()


async def test_a_slow_group_is_warned_of_and_a_rewound_one_is_told(settings: Settings) -> None:
    group = f"{settings.namespace}.slow"
    with topics(settings, 1) as [topic]:
        reader, window, ours = GroupsReader(settings), Window(), our_groups(settings)
        verdicts = []
        try:
            for number in range(12):
                produce(settings, topic, 0, 20)
                commit(settings, group, {(topic, 0): 5 * number})
                # The broker is real, the time is not.
                sample = await reader.read()
                window.add(type(sample)(1_700_000_000.0 + 5 * number, sample.groups))
                view = view_of(window, ours, now=1_700_000_000.0 + 5 * number)
                assert view is not None
                found = view.group(group)
                assert found is not None
                verdicts.append(found.verdict)
            commit(settings, group, {(topic, 0): 10})
            sample = await reader.read()
            window.add(type(sample)(1_700_000_060.0, sample.groups))
            view = view_of(window, ours, now=1_700_000_060.0)
        finally:
            await reader.close()
    assert verdicts[-1] is Verdict.WARN
    assert view is not None
    found = view.group(group)
    assert found is not None
    assert found.verdict is Verdict.REWIND
