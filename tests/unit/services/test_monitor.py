"""The monitor goes on whatever Kafka, Postgres and the groups of others do. Neither of both is there."""

import datetime
import itertools
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from monitoring.samples import Sample
from monitoring.view import SystemLag
from monitoring.window import SAMPLE_SECONDS, WINDOW_SECONDS
from runtime.settings import load_settings
from services.alarms.findings import of_broker
from services.monitor import Monitor


class Reader:
    """A reader of groups that answers with samples, or raises."""

    def __init__(self, answer: Callable[[], Sample]) -> None:
        self.answer = answer

    async def read(self) -> Sample:
        return self.answer()


class Samples:
    """Postgres: takes samples unless it is away, minutes if it is told to, and notes when it forgets."""

    def __init__(self, *, away: bool = False, takes_minutes: bool = True) -> None:
        self.away = away
        self.takes_minutes = takes_minutes
        self.problem = None
        self.forgot = 0

    async def load(self, *_: Any) -> list[bytes] | None:
        return None if self.away else []

    async def save(self, _: Any) -> bool:
        return not self.away

    async def save_minute(self, *_: Any) -> bool:
        return self.takes_minutes

    async def forget(self, **_: Any) -> bool:
        self.forgot += 1
        return True


def raising(error: Exception) -> Callable[[], Sample]:
    def answer() -> Sample:
        raise error

    return answer


def monitor_of(answer: Callable[[], Sample], samples: Samples, *listeners: Any) -> Monitor:
    monitor = Monitor(load_settings(), listeners)
    monitor._reader = Reader(answer)  # type: ignore[assignment]
    monitor._samples = samples  # type: ignore[assignment]
    return monitor


AWAY = KafkaException(KafkaError(KafkaError._TRANSPORT, "no broker answers"))


async def test_an_answer_that_nobody_foresaw_does_not_end_the_monitor() -> None:
    monitor = monitor_of(raising(ValueError("odd")), Samples())
    assert await monitor.sample() is None


async def test_a_broker_that_has_never_answered_is_handed_on_as_away() -> None:
    views: list[SystemLag] = []

    async def listener(view: SystemLag) -> None:
        views.append(view)

    begun = time.time()
    monitor = monitor_of(raising(AWAY), Samples(), listener)
    assert await monitor.sample() is None
    assert await monitor.sample() is None
    assert monitor.health()["verdict"] is None
    assert [view.groups for view in views] == [(), ()]
    assert views[0].away_since == views[1].away_since
    assert begun <= (views[0].away_since or 0) <= time.time()
    [found] = of_broker(views[1])
    assert found.subject == "kafka"


async def test_what_is_old_is_forgotten_also_while_no_minute_can_be_kept() -> None:
    samples = Samples(takes_minutes=False)
    monitor = monitor_of(lambda: Sample(time.time(), {}), samples)
    monitor._unsaved_minutes.append((datetime.datetime.now(datetime.UTC), {}))
    await monitor.sample()
    await monitor.sample()
    assert samples.forgot == 1, "once a minute is enough"
    assert len(monitor._unsaved_minutes) == 1


async def test_no_more_than_a_window_is_kept_while_postgres_is_away() -> None:
    times = itertools.count(1_700_000_000.0, SAMPLE_SECONDS)
    monitor = monitor_of(lambda: Sample(next(times), {}), Samples(away=True))
    for _ in range(300):
        await monitor.sample()
    assert len(monitor._own) == len(monitor._unsaved) == WINDOW_SECONDS / SAMPLE_SECONDS


async def test_a_clock_that_is_set_back_has_the_samples_of_later_forgotten_at_once() -> None:
    samples = Samples()
    monitor = monitor_of(lambda: Sample(time.time(), {}), samples)
    monitor._forgot_at = time.time() + 3600
    await monitor.sample()
    assert samples.forgot == 1
