"""Many who watch the lag at once cost the broker one reading, and the window is that of the monitor."""

import asyncio
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from monitoring.samples import GroupSample, PartitionSample, Sample
from monitoring.view import SystemLag
from monitoring.watching import CLOSEST_SECONDS, LagWatch, packed
from runtime.settings import load_settings


class Reader:
    """Reads nothing, or fails so; both take a while."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked = 0

    async def read(self) -> Sample:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return Sample(time.time(), {"g": GroupSample("Stable", {"t": [PartitionSample(0, 1, 0, 2, 2)]})})


class Samples:
    """What the monitor has kept."""

    def __init__(self, *kept: Sample) -> None:
        self.kept = kept

    async def load(self, after: float, to: float) -> list[bytes]:
        return [packed(sample) for sample in self.kept if after < sample.at <= to]


def watch_with(reader: Reader, samples: Samples) -> LagWatch:
    watch = LagWatch(load_settings())
    watch._reader, watch._samples = reader, samples  # type: ignore[assignment]
    return watch


async def test_a_failure_is_that_of_all_who_wait_for_it() -> None:
    reader = Reader(KafkaException(KafkaError(KafkaError._TRANSPORT, "no broker answers")))
    watch = watch_with(reader, Samples())
    answers: list[Any] = await asyncio.gather(*(watch.view() for _ in range(50)), return_exceptions=True)
    assert {str(answer) for answer in answers} == {str(reader.error)}
    assert len({id(answer) for answer in answers}) == 50, "a traceback each"
    assert reader.asked == 1
    reader.error = None
    assert watch._failure is not None
    watch._failure = watch._failure[0] - CLOSEST_SECONDS, watch._failure[1]
    assert isinstance(await watch.view(), SystemLag)


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
async def test_samples_of_a_clock_that_was_wrong_do_not_hide_the_lag_of_now(ahead: float) -> None:
    samples = Samples(Sample(time.time() + ahead, {}))
    watch = watch_with(Reader(), samples)
    watch._loaded_to = time.time() + ahead
    view = await watch.view()
    assert [group.group for group in view.groups] == ["g"]
    samples.kept = (Sample(view.at + 5, {}),)
    watch._view = None
    assert (await watch.view()).monitored
