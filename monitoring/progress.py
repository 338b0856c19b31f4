"""Finds consumer groups that stand still: pure rules on committed offsets and the health of processes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.lag import PartitionLag
from runtime.kafka.topic_admin import Place


@dataclass(frozen=True)
class Sample:
    """The lag of all partitions at one moment."""

    at: float
    """Seconds of a monotonic clock."""
    rows: tuple[PartitionLag, ...] | None
    """None when the broker did not answer: nobody can commit then, so nobody is to blame."""


@dataclass(frozen=True)
class Stall:
    """A partition of a group with records that wait, and nothing committed."""

    group: str
    topic: str
    partition: int
    seconds: float
    lag: int

    @property
    def place(self) -> str:
        """As processes name their partitions in /health."""
        return f"{self.topic}/{self.partition}"


def stalled(samples: Sequence[Sample], now: float, limit: float) -> list[Stall]:
    """The partitions that had lag at every sample for at least `limit` seconds, and whose committed offset stood still.

    `samples` are in order of time. The window begins again after the broker did not answer. A group that commits again,
    even to an earlier offset (a reset by hand), moves.
    """
    window = _since_the_last_outage(samples)
    if not window:
        return []
    found = []
    for place, latest in window[-1][1].items():
        since = None
        for at, rows in reversed(window):
            row = rows.get(place)
            if row is None or row.lag == 0 or row.committed != latest.committed:
                break
            since = at
        if latest.lag and since is not None and now - since >= limit:
            found.append(Stall(latest.group, latest.topic, latest.partition, now - since, latest.lag))
    return found


def forget_before(samples: Iterable[Sample], moment: float) -> list[Sample]:
    """The samples that a window which begins at this moment still needs."""
    return [sample for sample in samples if sample.at >= moment]


def to_restart(stalls: Iterable[Stall], answers: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """The processes of a group that are to be restarted. `answers`: their /health by name; None: it did not answer.

    A process that says what holds it up is left alone: one that waits for its store, or for its answer to a write, goes
    on by itself, and one that has stopped at the failure limit, or paused the topic, is not helped by a restart. Of the
    others those that hold a stalled partition or do not answer; all of them when none holds it.
    """
    explained = {topic for answer in answers.values() if answer for topic in answer.get("paused", ())}
    places = {stall.place for stall in stalls if stall.topic not in explained}
    if not places:
        return []
    able = {name: answer for name, answer in answers.items() if not _says_why(answer)}
    guilty = [name for name, answer in able.items() if answer is None or places & _partitions(answer)]
    held = any(places & _partitions(answer) for answer in answers.values() if answer)
    # A stalled partition that is held by a process that says why is explained.
    return guilty or ([] if held else list(able))


def _since_the_last_outage(samples: Sequence[Sample]) -> list[tuple[float, dict[tuple[str, Place], PartitionLag]]]:
    window: list[tuple[float, dict[tuple[str, Place], PartitionLag]]] = []
    for sample in samples:
        if sample.rows is None:
            window = []
        else:
            window.append((sample.at, {(row.group, (row.topic, row.partition)): row for row in sample.rows}))
    return window


def _says_why(answer: Mapping[str, Any] | None) -> bool:
    if answer is None:
        return False
    writes = "writing_seconds" in answer and "problem" not in answer
    return writes or answer.get("state") in ("waiting_for_store", "failure_limit_reached")


def _partitions(answer: Mapping[str, Any]) -> set[str]:
    """The partitions that a process holds: sinks call them `assigned`, the normalizer `partitions`."""
    return set(answer.get("assigned") or answer.get("partitions") or ())
