"""A Faust transport whose events are batches: `event.value` is a list of consumed records of one partition.

Faust's plumbing costs about 0.2 ms per event, whatever the agent does; here it is paid once per batch, and Faust's
agents, rebalancing and commits stay. Use it with `stream.noack()`, call `confirm(event)` when everything that came out
of the batch is safe, and confirm the batches of a partition in the order in which they came.

Verified against faust-streaming 0.15 and aiokafka 0.14; the overridden methods are internal to them, so a change of
either must pass `tests/integration/test_normalizer.py`.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from faust.types.events import EventT
from faust.types.tuples import Message
from mode.utils.futures import notify

from runtime.kafka.record_batches import read_leniently
from stream_processors.out_of_range import LOST, begin_again, seek_to_places
from stream_processors.positions import Cut, Positions

FETCH_WAIT_MS = 10
"""While records come, the broker holds a fetch for so long, or until there are ENOUGH_BYTES, and answers with all.

Answered at once, records that are sent one by one would be fetched one by one, and each would be a batch for all that
follows: with 1,000 a second a machine is full, and one that has just started falls seconds behind (decision 0064).

It is also the longest time for which the broker holds a fetch that finds nothing. aiokafka has one fetch under way per
broker. While busy partitions still have records buffered, it asks for the idle ones alone, and the busy ones wait until
that answer comes: with Faust's 1500 ms a worker of several topics is idle half of its time.
"""

ENOUGH_BYTES = 65_536

IDLE_FETCH_WAIT_MS = 500
"""The same once nothing comes: the first record is answered with at once, and a fetch costs half a millisecond."""

Batch = list[ConsumerRecord]
"""Records of one partition in order of offset, never empty; offsets need not be contiguous."""


@dataclass(frozen=True)
class Fetched:
    """The batches that one fetch has brought, and the consumer's positions right behind them."""

    assignment: Any
    """aiokafka makes a new one for each rebalance, with positions of its own; `active` until the next."""
    batches: Mapping[TP, Batch]
    positions: Mapping[TP, int]
    """Of all partitions that are read: also of those in which it has passed markers or aborted records alone."""


# Faust names a service's logger after its module; these are Faust's services, and its loggers are set in one place.
_logger = logging.getLogger("faust.batch_transport")


class BatchMessage(ConsumerMessage):
    """The message that stands for a batch. Faust may count down its references; only `confirm` makes it safe."""

    confirmed = False
    cut: Cut[TP]


def confirm(event: EventT[Any]) -> None:
    """Say that everything that came out of the batch is safe, so its offsets may be committed. Idempotent.

    Raises nothing if the partition has been taken away meanwhile: the batch is then left to its new owner.
    """
    message = event.message
    if not isinstance(message, BatchMessage):
        raise TypeError(f"confirm() takes events of the batch transport, got a {type(message).__name__}")
    message.confirmed = True
    event.ack()


class BatchThread(driver.AIOKafkaConsumerThread):
    """Hands out what was fetched as one item per partition instead of one per record."""

    logger = _logger

    async def getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 (Faust's signature)
    ) -> dict[TP, list[tuple[Batch, Cut[TP]]]]:
        fetched = cast("Fetched | None", await super().getmany(active_partitions, timeout))
        # Faust asks for the next when it has passed all of this on, so the look after this one knows of each batch.
        return {} if fetched is None else cast("BatchConsumer", self.consumer).take(fetched)

    async def _fetch_records(self, consumer: AIOKafkaConsumer, *args: Any, **kwargs: Any) -> Any:
        """The batches that were fetched, as Fetched; None while no records may flow.

        On the thread of the consumer, where nothing can move it between the fetch and the look at its positions.
        """
        try:
            batches = await super()._fetch_records(consumer, *args, **kwargs)
        except LOST as error:
            await begin_again(consumer, error)
            return None
        consumer._fetcher._fetch_max_wait_ms = FETCH_WAIT_MS if batches else IDLE_FETCH_WAIT_MS  # noqa: SLF001
        consumer._fetcher._fetch_min_bytes = ENOUGH_BYTES if batches else 1  # noqa: SLF001
        subscription = consumer._subscription.subscription  # noqa: SLF001 (the public ways to it ask once per partition)
        assignment = subscription and subscription.assignment
        if not assignment:
            return None
        if not self.consumer.flow_active:
            # A fetch that began before a rebalance may end in the next assignment, before Faust lets records flow. It
            # would drop them, and go back to the committed offset only where there is one.
            for tp, batch in batches.items():
                consumer.seek(tp, batch[0].offset)
            return None
        states = {tp: assignment.state_value(tp) for tp in assignment.tps}
        positions = {tp: state.position for tp, state in states.items() if state.has_valid_position}
        return Fetched(assignment, batches, positions)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return cast("Mapping[TP, int]", await self.call_thread(seek_to_places, self._ensure_consumer()))

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        read_leniently()
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 (Faust offers no setting for it)
        # Nor for this, unless it is to write in transactions too. What is aborted, or not committed yet, is no record.
        consumer._isolation_level = "read_committed"  # noqa: SLF001
        return consumer

    def progress(self, tp: TP) -> tuple[int | None, int | None]:
        """Next offset to hand out and last stable offset of the partition, as far as known. Does not ask the broker."""
        # What aiokafka shows of it publicly is asked for on its own thread.
        subscription = self._ensure_consumer()._fetcher._subscriptions.subscription  # noqa: SLF001
        assignment = subscription and subscription.assignment
        if not assignment or tp not in assignment.tps:
            return None, None
        state = assignment.state_value(tp)
        return (state.position if state.has_valid_position else None), state.lso


class BatchConsumer(driver.Consumer):
    """Commits behind confirmed batches.

    Faust's own bookkeeping wants an ack for every single offset: it takes the offsets between two batches, and a
    batch's own last one, for gaps, and after a restart commits nothing ever again. Batches are confirmed in order, so
    one number per partition says it all.
    """

    logger = _logger

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._fetched_assignment: Any = None
        self._positions: Positions[TP] = Positions()
        self.committed_at: float | None = None
        """Time of the latest successful commit, on the monotonic clock."""
        super().__init__(*args, **kwargs)

    def take(self, fetched: Fetched) -> dict[TP, list[tuple[Batch, Cut[TP]]]]:
        """Note where the consumer stands behind what it has fetched, and pass that on."""
        if not (self.flow_active and fetched.assignment.active):
            return {}  # a rebalance has begun meanwhile, and whoever gets the partitions begins at what is committed
        if fetched.assignment is not self._fetched_assignment:
            self._fetched_assignment, self._positions = fetched.assignment, Positions()
        for tp in fetched.positions.keys() - fetched.batches.keys():
            self._positions.passed(tp, fetched.positions[tp])
        return {tp: [(batch, self._positions.cut(tp, fetched.positions[tp]))] for tp, batch in fetched.batches.items()}

    def waiting_partitions(self) -> list[TP]:
        """Assigned partitions with records that are fetched and not confirmed, or not even fetched. Does not block.

        What an open transaction holds cannot be fetched, and nobody waits for that.
        """
        waiting = []
        for tp in self.assignment():
            position, end = cast("BatchThread", self._thread).progress(tp)
            if self._positions.is_open(tp) or (position is not None and end is not None and position < end):
                waiting.append(tp)
        return waiting

    def ack(self, message: Message) -> bool:
        """Note a confirmed batch. Faust also acks what it *skips* after a rebalance: that must never be committed."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        if not isinstance(message, BatchMessage) or not message.confirmed:
            return False
        if message.generation_id != self.app.consumer_generation_id:
            return False
        message.cut.confirm()
        self._n_acked += 1
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust waits here until batches in work are confirmed, and commits them; what is left belongs to the next."""
        await super().on_partitions_revoked(revoked)
        self._positions = Positions()

    def on_buffer_full(self, tp: TP) -> None:
        """Do not stop fetching from the partition: the full queue itself holds the fetch loop back.

        Faust would fetch from the others only, and sleeps for a second when those have nothing, while the queue
        drains in a tenth of that.
        """

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: tuple[Batch, Cut[TP]]) -> BatchMessage:
        batch, cut = record
        last = batch[-1]
        message = BatchMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000.0,
            timestamp_type=last.timestamp_type,
            headers=[],
            key=None,
            value=cast("Any", batch),
            checksum=None,
            tp=tp,
            # A message without the current generation is skipped by streams, silently.
            generation_id=self.app.consumer_generation_id,
        )
        message.cut = cut
        return message

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self._positions.committable if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._positions.committable.get(tp)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave it to `worker_health` to judge whether records wait: Faust takes what a transaction holds for some."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        committed: bool = await super()._commit(offsets)
        if committed:
            self.committed_at = time.monotonic()
        return committed

    def assignment(self) -> set[TP]:
        """The partitions held. None before the consumer's thread has begun, which a busy machine may start late: other
        services of Faust ask at once, and would end the process.
        """
        try:
            return super().assignment()
        except ConsumerNotStarted:
            return set()

    async def rewind(self, topics: Collection[str]) -> None:
        """Commit the first offset of every partition of these topics that is assigned; what is read stays as it is."""
        if first := {tp: 0 for tp in self.assignment() if tp.topic in topics}:
            await self._commit(first)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Keep no account of gaps: it would grow with every batch and nothing reads it."""


class BatchTransport(driver.Transport):
    """Kafka through aiokafka, in batches."""

    Consumer = BatchConsumer


class BatchApp(faust.App):
    """A Faust app on the batch transport, without Faust's web server (it binds a fixed port for each worker)."""

    logger = _logger

    class BootStrategy(faust.app.base.BootStrategy):
        """Starts no web server with the app."""

        enable_web = False

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)
