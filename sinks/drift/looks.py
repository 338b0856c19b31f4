"""Looks at raw records as they come by: whose they are, and what shape they have. Costs about 2 µs a record."""

from collections.abc import Mapping

from runtime.settings import Settings
from schemas.events import HEADER_MAPPING, HEADER_PROBLEM, HEADER_REPLAY_OF, HEADER_RUN, HEADER_SOURCE
from schemas.registry import ingested_datasets
from sinks.drift.observation import Group
from sinks.drift.shapes import Shape, Shapes
from sinks.sink import Message

PUSHED = "push"
"""The source of records that name none."""

MAX_GROUPS = 1024
"""Runs and sources that are remembered; beyond that all are forgotten, which costs a little time."""

MAX_BYTES_KEPT = 16_384
"""The headers of a group that is remembered; longer ones, which are none of ours, cost time instead of memory."""

MAX_NAME = 200
"""Characters of a source's name or a run's id: Postgres has an index on them, which takes 2,700 bytes."""

Look = tuple[Group, Shape] | None
"""What a record shows of its source. None where it shows nothing: a delete, an unreadable record, or one sent again."""


class Looks:
    """Remembers groups and shapes, and nothing about records."""

    def __init__(self, settings: Settings) -> None:
        self._datasets = {settings.named(dataset.raw_topic): dataset.name for dataset in ingested_datasets()}
        self._shapes = Shapes()
        self._groups: dict[tuple[bytes | None, ...], Group] = {}

    def look(self, message: Message, headers: Mapping[str, bytes | None]) -> Look:
        """Never raises for what a producer can send."""
        if HEADER_PROBLEM in headers or HEADER_REPLAY_OF in headers:
            return None
        shape = self._shapes.of(message.value())
        if shape is None:
            return None
        topic = message.topic()
        source, run, mapping = headers.get(HEADER_SOURCE), headers.get(HEADER_RUN), headers.get(HEADER_MAPPING)
        group = self._groups.get((topic, source, run, mapping))
        if group is None:
            names = [(header_text(value) or "")[:MAX_NAME] for value in (source, run)]
            group = Group(names[0] or PUSHED, self._datasets[topic], names[1] or None, mapping)
            if sum(map(len, filter(None, (source, run, mapping)))) <= MAX_BYTES_KEPT:
                if len(self._groups) >= MAX_GROUPS:
                    self._groups.clear()
                self._groups[topic, source, run, mapping] = group
        return group, shape


def header_text(value: bytes | None) -> str | None:
    """Bytes as text that Postgres takes: a foreign producer may send broken UTF-8 and NUL."""
    return None if value is None else value.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
