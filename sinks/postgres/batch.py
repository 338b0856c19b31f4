"""Batches: the messages of one poll, decoded, each with the raw record that it came from.

A message of another declaration (a rolled back deploy, a rolling upgrade) has the envelope that all have. What has no
readable origin among our raw topics is foreign: nobody's record, and it covers no offset.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
from msgspec import structs

from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.errors import HOSTILE, InvalidRecord
from schemas.events import FailedRecord, Origin
from schemas.registry import all_datasets, ingested_datasets
from sinks.failed_records import NO_PARTITION, now_ms
from sinks.postgres.arrivals import Arrival, decode_arrival
from sinks.postgres.failures import STAGE, unread
from sinks.sink import Message
from stores.epochs import archived, raw_topics
from stores.failure_states import DOWNSTREAM_STAGES

UNKNOWN = "unknown"
"""The dataset of what came on `failures` and does not say."""

LATEST_MS = 253_402_300_800_000
"""The year 10000: no time that a database knows."""

LARGEST = 2**62
"""Of an offset: what is larger no broker gave, and Postgres cannot count on from."""

ANY_TIME = range(-(2**63), 2**63)
"""Times that Kafka takes of a producer, where it does not stamp records itself, and that Postgres can keep."""

LONGEST_EPOCH = 4
"""Digits of the number of an ended epoch: with more, its partitions have no number in Postgres."""

LONGEST_LABEL = 200
"""Characters of the dataset, stage and reason of a failure: they stand in an index, and are grouped by."""


@dataclass
class Batch:
    """Decoded messages: arrivals by dataset, failures read, and failures of decoding, which nobody knows of yet.

    `reprocessed` are arrivals that were normalized again. `undecodable` are failures of our raw records, `foreign`
    those of messages that came from none.
    """

    arrivals: dict[Dataset, list[Arrival]] = field(default_factory=dict)
    reprocessed: dict[Dataset, list[Arrival]] = field(default_factory=dict)
    reported: list[FailedRecord] = field(default_factory=list)
    undecodable: list[FailedRecord] = field(default_factory=list)
    foreign: list[FailedRecord] = field(default_factory=list)

    def origins(self) -> list[Origin]:
        """Coordinates of every raw record of ours in it."""
        return [
            *(arrival.origin for arrival in self._all_arrivals()),
            *(failed.origin for failed in (*self.reported, *self.undecodable)),
        ]

    def sources(self) -> set[str]:
        """Whose records are in it, as far as they say."""
        named = (
            *(arrival.source for arrival in self._all_arrivals()),
            *(failed.source for failed in self.reported),
        )
        return {source for source in named if source}

    def rebase(self, rebased: Callable[[Origin], Origin]) -> None:
        for arrival in self._all_arrivals():
            arrival.origin = rebased(arrival.origin)
        for failures in (self.reported, self.undecodable):
            failures[:] = [structs.replace(failed, origin=rebased(failed.origin)) for failed in failures]

    def leave_out(self, names: Collection[str]) -> None:
        """Take out what came on the clean topics of these datasets."""
        self.arrivals, self.reprocessed = (
            {dataset: found for dataset, found in every.items() if dataset.name not in names}
            for every in (self.arrivals, self.reprocessed)
        )
        self.undecodable = [failed for failed in self.undecodable if failed.dataset not in names]
        self.foreign = [failed for failed in self.foreign if failed.dataset not in names]

    def parts(self, records: int) -> Iterator["Batch"]:
        """The same in batches of so many arrivals at most, in order; the failures come last."""
        for dataset, arrivals in self.arrivals.items():
            for start in range(0, len(arrivals), records):
                yield Batch({dataset: arrivals[start : start + records]})
        for dataset, arrivals in self.reprocessed.items():
            for start in range(0, len(arrivals), records):
                yield Batch(reprocessed={dataset: arrivals[start : start + records]})
        yield Batch(reported=self.reported, undecodable=self.undecodable, foreign=self.foreign)

    def _all_arrivals(self) -> Iterator[Arrival]:
        return chain.from_iterable(chain(self.arrivals.values(), self.reprocessed.values()))


class Decoder:
    """Decodes messages, and tells those of our raw records from foreign ones."""

    def __init__(self, settings: Settings) -> None:
        self._datasets = {settings.named(dataset.clean_topic): dataset for dataset in ingested_datasets()}
        self._datasets_of_raw = raw_topics(settings)
        self._raw_of = {dataset: topic for topic, dataset in self._datasets_of_raw.items()}
        self.raw_topics = frozenset(self._datasets_of_raw)
        """Those of datasets that are declared no more are to be added: their failures may still come."""

    def decode(self, messages: Sequence[Message]) -> Batch:
        """The batch of these messages, whatever is in them. Pure."""
        batch = Batch()
        for message in messages:
            dataset = self._datasets.get(message.topic())
            topics = (self._raw_of[dataset],) if dataset else self.raw_topics
            try:
                if dataset is not None:
                    arrival = decode_arrival(dataset, message.value())
                    if _is_ours(origin := arrival.origin, topics, message.partition()):
                        group = batch.reprocessed if arrival.reprocess else batch.arrivals
                        group.setdefault(dataset, []).append(arrival)
                        continue
                else:
                    failed = _failed_record(message.value())
                    if _is_ours(origin := failed.origin, topics, message.partition()) or self._is_of_a_row(failed):
                        batch.reported.append(failed)
                        continue
                error = InvalidRecord("foreign", f"it names {origin.topic[:200]}/{origin.partition}/{origin.offset}")
            except InvalidRecord as caught:
                error = caught
                envelope = _envelope(message.value())
                if envelope is not None and _is_ours(envelope.origin, topics, message.partition()):
                    of = dataset or self._datasets_of_raw.get(envelope.origin.topic)
                    batch.undecodable.append(unread(_undecodable(message, of, envelope, error)))
                    continue
            batch.foreign.append(_foreign(message, dataset, error))
        return batch

    def _is_of_a_row(self, failed: FailedRecord) -> bool:
        """True where a store refused a row that the API has written: there is no raw record behind it."""
        place = failed.origin.topic, failed.origin.partition
        written = {(one.changed_topic, NO_PARTITION) for one in all_datasets() if one.written_by == "api"}
        return failed.stage in DOWNSTREAM_STAGES and place in written and _can_be_kept(failed.origin)


class Envelope(msgspec.Struct, frozen=True):
    """The members that clean and failed records of any version have in common. Only the origin is certain."""

    origin: Origin
    key: Any = None
    source: Any = None
    kind: Any = None
    run: Any = None
    data: msgspec.Raw = msgspec.Raw(b"")
    payload: Any = None

    def text(self, name: str) -> str | None:
        value = getattr(self, name)
        return value if isinstance(value, str) else None


_decode_envelope = msgspec.json.Decoder(Envelope).decode


def _envelope(value: bytes | None) -> Envelope | None:
    """The envelope of a message, None if it has none. Pure."""
    try:
        return _decode_envelope(value or b"")
    except HOSTILE:
        return None


def _is_ours(origin: Origin, topics: Collection[str], partition: int) -> bool:
    """True if a message of this partition may come from there. Pure.

    `topics` are our physical raw topics. Stages write to the partition that they read from, so the numbers are equal;
    of an ended epoch both are archived (`stores/epochs.py`).
    """
    if not _can_be_kept(origin):
        return False
    if origin.topic in topics:
        return origin.partition == partition
    topic, _, epoch = origin.topic.partition("@")
    if topic not in topics or not (epoch.isascii() and epoch.isdecimal() and len(epoch) <= LONGEST_EPOCH):
        return False
    return origin == archived(Origin(topic, partition, origin.offset, origin.timestamp), int(epoch))


def _can_be_kept(origin: Origin) -> bool:
    return 0 <= origin.offset < LARGEST and origin.timestamp in ANY_TIME


_decode_failed = msgspec.json.Decoder(FailedRecord).decode


def _failed_record(value: bytes | None) -> FailedRecord:
    """The failure in a message's value. Pure. Raises InvalidRecord (`failure_form`) for what no stage of ours wrote."""
    try:
        failed = _decode_failed(value or b"")
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRecord("failure_form", f"not a failed record: {error}") from error
    if not 0 <= failed.failed_at < LATEST_MS:
        raise InvalidRecord("failure_form", f"not a failed record: failed_at {failed.failed_at} is no time")
    if max(map(len, (failed.dataset, failed.stage, failed.reason))) > LONGEST_LABEL:
        raise InvalidRecord("failure_form", f"not a failed record: a name of more than {LONGEST_LABEL} characters")
    return failed


def _undecodable(message: Message, dataset: Dataset | None, envelope: Envelope, error: InvalidRecord) -> FailedRecord:
    """A message that does not decode, and tells all the same which raw record it came from: that one has failed."""
    return FailedRecord(
        dataset=dataset.name if dataset else UNKNOWN,
        stage=STAGE,
        reason=error.reason,
        message=error.message,
        origin=envelope.origin,
        failed_at=now_ms(),
        key=envelope.text("key"),
        payload=bytes(envelope.data) or message.value(),
        source=envelope.text("source"),
        kind=envelope.text("kind"),
        run=envelope.text("run"),
    )


def _foreign(message: Message, dataset: Dataset | None, error: InvalidRecord) -> FailedRecord:
    """A message that came from no raw record of ours. It is shown under its own coordinates, and covers no offset."""
    key = message.key()
    return FailedRecord(
        dataset=dataset.name if dataset else UNKNOWN,
        stage=STAGE,
        reason="foreign",
        message=f"it came from none of our raw records: {error.message}",
        origin=Origin(message.topic(), message.partition(), message.offset(), message.timestamp()[1]),
        failed_at=now_ms(),
        key=key.decode("utf-8", "replace") if key is not None else None,
        payload=message.value(),
    )
