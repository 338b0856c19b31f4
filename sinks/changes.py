"""Reads `<dataset>.changed` for the sinks that follow Postgres."""

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog

from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets
from sinks.sink import Message

log = structlog.get_logger()


LARGEST_VERSION = 2**62
"""Postgres numbers rows from 1 on. A version beyond would keep all that follows out of the stores."""


class Change(Protocol):
    """The least that a follower decodes of a `schemas.events.ChangeEvent`."""

    @property
    def key(self) -> str: ...

    @property
    def version(self) -> int: ...


Followed = TypeVar("Followed", bound=Change)


class ChangeReader(Generic[Followed]):
    """Decodes change events by the topic that they came on, as a type that names the members that the sink needs."""

    def __init__(self, settings: Settings, followed: type[Followed]) -> None:
        self._datasets = {settings.named(dataset.changed_topic): dataset for dataset in all_datasets()}
        self._decode = msgspec.json.Decoder(followed).decode

    def newest(self, messages: Iterable[Message]) -> list[tuple[Dataset, Followed]]:
        """The change with the highest version of each key. Pure but for a log line.

        Only the Postgres sink and the relay write these topics. What they did not write names no row and is passed
        over, with its coordinates in the log: nothing would be repaired by stopping at it.
        """
        decode = self._decode
        newest: dict[str, dict[str, Followed]] = {topic: {} for topic in self._datasets}
        for message in messages:
            try:
                change = decode(message.value() or b"")
                _require_possible(change.version)
            except (msgspec.MsgspecError, ValueError) as error:
                log.error(  # noqa: TRY400 (the input is at fault: no trace needed)
                    "not_a_change_event",
                    topic=message.topic(),
                    partition=message.partition(),
                    offset=message.offset(),
                    error=str(error),
                )
                continue
            of_topic = newest[message.topic()]
            held = of_topic.setdefault(change.key, change)
            if change.version > held.version:
                of_topic[change.key] = change
        return [(self._datasets[topic], change) for topic, changes in newest.items() for change in changes.values()]


def _require_possible(version: int) -> None:
    if not 0 <= version < LARGEST_VERSION:
        raise ValueError(f"Postgres gives no version like {version}")
