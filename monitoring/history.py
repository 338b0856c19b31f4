"""Figures of each minute, to keep for hours: small, since only what people plot over time is in them. Pure."""

import datetime
from collections.abc import Mapping
from typing import Any

import msgspec

from monitoring.verdicts import SEVERITY, Verdict
from monitoring.view import SystemLag, TopicView


class MinuteFigures(msgspec.Struct, frozen=True, array_like=True):
    """A group's topic at the end of a minute, with the worst verdict within it."""

    waiting: int
    seconds: float | None
    rate_in: float | None
    rate_out: float | None
    verdict: Verdict
    partitions: list[int]
    """Records that wait in each partition, in order of their numbers."""


class Minutes:
    """Gathers views into minutes."""

    def __init__(self) -> None:
        self._minute: datetime.datetime | None = None
        self._worst: dict[tuple[str, str], Verdict] = {}
        self._latest: SystemLag | None = None

    def add(self, view: SystemLag) -> tuple[datetime.datetime, dict[str, Any]] | None:
        """Take a view in. Returns a minute and its figures by group and topic once it is over. In order of time."""
        minute = datetime.datetime.fromtimestamp(view.at, datetime.UTC).replace(second=0, microsecond=0)
        over = None
        if self._minute is not None and minute != self._minute and self._latest is not None:
            over = (self._minute, figures_of(self._latest, self._worst))
            self._worst = {}
        self._minute, self._latest = minute, view
        for group in view.groups:
            for topic in group.topics:
                place = (group.group, topic.topic)
                self._worst[place] = max(topic.verdict, self._worst.get(place, Verdict.OK), key=SEVERITY.__getitem__)
        return over


def figures_of(view: SystemLag, worst: Mapping[tuple[str, str], Verdict]) -> dict[str, Any]:
    """The figures of a view, by group and topic, as they are stored. Pure.

    Without groups that have a NUL character in their name: Kafka takes it, Postgres does not.
    """
    return {
        group.group: {
            topic.topic: msgspec.to_builtins(_figures(topic, worst.get((group.group, topic.topic), topic.verdict)))
            for topic in group.topics
        }
        for group in view.groups
        if "\x00" not in group.group
    }


def read_figures(stored: Any) -> dict[str, MinuteFigures]:
    """The figures of a group by topic, as they were stored. Pure. Raises msgspec.ValidationError for anything else."""
    return msgspec.convert(stored, dict[str, MinuteFigures])


def _figures(topic: TopicView, verdict: Verdict) -> MinuteFigures:
    waiting = [partition.waiting for partition in topic.partitions]
    return MinuteFigures(topic.waiting, topic.seconds, topic.rate_in, topic.rate_out, verdict, waiting)
