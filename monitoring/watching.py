"""Reads the lag view now, over the window that the monitor keeps in Postgres: one call for whoever wants to see it."""

import asyncio
import contextlib
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from confluent_kafka import KafkaException

from monitoring.lag import our_groups
from monitoring.samples import Sample
from monitoring.view import FRESH_SECONDS, SystemLag, view_of
from monitoring.window import LONGEST_STEP_SECONDS, WINDOW_SECONDS, Window
from runtime.settings import Settings
from stores.lag_samples import LagSamples

if TYPE_CHECKING:
    from monitoring.groups_reader import GroupsReader

CLOSEST_SECONDS = 1.0
"""A view that is younger answers whoever asks: many who look cost the broker no more than one."""


async def read_view(settings: Settings) -> SystemLag:
    """The lag of all groups now, once. Raises KafkaException when the broker does not answer.

    A Postgres that is away only takes the window: verdicts and rates then are of this one moment.
    """
    watch = LagWatch(settings)
    try:
        return await watch.view()
    finally:
        await watch.close()


class LagWatch:
    """Reads the lag again and again, at most once a second however many ask. Close it. For one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._ours = our_groups(settings)
        self._settings = settings
        self._reader: GroupsReader | None = None
        self._samples = LagSamples(settings)
        self._window = Window()
        self._loaded_to = 0.0
        self._lock = asyncio.Lock()
        self._view: SystemLag | None = None
        self._failure: tuple[float, KafkaException] | None = None
        self.streams: Counter[str] = Counter()
        """Streams that ask it again and again, by caller, for their own bounds."""

    async def view(self) -> SystemLag:
        """The lag now, at most CLOSEST_SECONDS old. Raises KafkaException when the broker does not answer.

        A failure is that of all who ask within so long: waited for one by one, it would take each of them longer.
        """
        async with self._lock:
            if self._failure is not None and time.monotonic() - self._failure[0] < CLOSEST_SECONDS:
                raise KafkaException(*self._failure[1].args)
            if self._view is None or not 0 <= time.time() - self._view.at < CLOSEST_SECONDS:
                try:
                    self._view = await self._read()
                except KafkaException as error:
                    self._failure = time.monotonic(), error
                    raise
            return self._view

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        if self._reader is not None:
            await self._reader.close()
        await self._samples.close()

    async def _read(self) -> SystemLag:
        # What the monitor has seen comes first: samples are added in order of time.
        await self._load()
        from monitoring.groups_reader import GroupsReader  # here, since it loads a second Kafka client

        self._reader = self._reader or GroupsReader(self._settings, self._ours)
        try:
            sample = await self._reader.read()
        except KafkaException:
            self._window.add(Sample(time.time(), None))
            raise
        self._window.add(sample)
        monitored = sample.at - self._loaded_to < FRESH_SECONDS
        view = view_of(self._window, self._ours, now=time.time(), monitored=monitored)
        if view is None:
            raise AssertionError("a window with a sample in which the broker answered has a view")
        return view

    async def _load(self) -> None:
        latest = time.time() + LONGEST_STEP_SECONDS
        if self._loaded_to > latest:  # the clock has been set back
            self._loaded_to = 0.0
        bodies = await self._samples.load(max(self._loaded_to, time.time() - WINDOW_SECONDS), latest)
        for sample in unpacked(bodies or ()):
            self._loaded_to = sample.at
            self._window.add(sample)


def packed(sample: Sample) -> bytes:
    """A sample in compact form. Pure."""
    return zlib.compress(msgspec.msgpack.encode(sample), level=1)


def unpacked(bodies: Iterable[bytes]) -> list[Sample]:
    """The samples that were `packed`, without those of a version that packed others. Pure."""
    found = []
    for body in bodies:
        with contextlib.suppress(msgspec.DecodeError, zlib.error):
            found.append(msgspec.msgpack.decode(zlib.decompress(body), type=Sample))
    return found
