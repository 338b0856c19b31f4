"""Reads `<dataset>.changed` for the sinks that follow Postgres."""

from collections.abc import Iterable

import msgspec
import structlog

from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import ChangeEvent
from schemas.registry import all_datasets
from sinks.sink import Message

log = structlog.get_logger()

_decode = msgspec.json.Decoder(ChangeEvent).decode


class ChangeReader:
    """Decodes change events by the topic that they came on."""

    def __init__(self, settings: Settings) -> None:
        self._datasets = {settings.named(dataset.changed_topic): dataset for dataset in all_datasets()}

    def newest(self, messages: Iterable[Message]) -> list[tuple[Dataset, ChangeEvent]]:
        """The change with the highest version of each key. Pure but for a log line.

        Only the Postgres sink and the relay write these topics. What they did not write names no row and is passed
        over, with its coordinates in the log: nothing would be repaired by stopping at it.
        """
        newest: dict[tuple[Dataset, str], ChangeEvent] = {}
        for message in messages:
            dataset = self._datasets[message.topic()]
            try:
                change = _decode(message.value() or b"")
            except (msgspec.MsgspecError, UnicodeError) as error:
                log.error(  # noqa: TRY400 (the input is at fault: no trace needed)
                    "not_a_change_event",
                    topic=message.topic(),
                    partition=message.partition(),
                    offset=message.offset(),
                    error=str(error),
                )
                continue
            held = newest.get((dataset, change.key))
            if held is None or change.version >= held.version:
                newest[dataset, change.key] = change
        return [(dataset, change) for (dataset, _), change in newest.items()]
