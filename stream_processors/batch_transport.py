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

FETCH_WAIT_MS = 50
"""How long the broker may hold a fetch that finds nothing.

aiokafka has one fetch under way per broker. While busy partitions still have records buffered, it asks for the idle
ones alone, and the busy ones wait until that answer comes: with Faust's 1500 ms a worker of several topics is idle
half of its time.
"""

Batch = list[ConsumerRecord]
"""Records of one partition in order of offset, never empty; offsets need not be contiguous."""


# Faust names a service's logger after its module; these are Faust's services, and its loggers are set in one place.
_logger = logging.getLogger("faust.batch_transport")


class BatchMessage(ConsumerMessage):
    """The message that stands for a batch. Faust may count down its references; only `confirm` makes it safe."""

    confirmed = False

    @property
    def next_offset(self) -> int:
        """What to commit once the batch is done."""
        return int(self.offset) + 1


def confirm(event: EventT[Any]) -> None:
    """Say that everything that came out of the batch is safe, so its offsets may be committed. Idempotent.

    Raises nothing if the partition has been taken away meanwhile: the batch is then left to its new owner.
    """
    message = event.message
    if not isinstance(message, BatchMessage):
        raise TypeError(f"confirm() takes events of the batch transport, got a {type(message).__name__}")
    message.confirmed = True
    event.ack()


def set_aside(event: EventT[Any]) -> None:
    """Drop a batch and read no further in its partition, until another worker or a restart begins with it again.

    Nothing is committed for it. No later batch of the partition may be confirmed: it would cover this one.
    """
    event.ack()
    event.app.consumer.pause_partitions({event.message.tp})


class BatchThread(driver.AIOKafkaConsumerThread):
    """Hands out what was fetched as one item per partition instead of one per record."""

    logger = _logger

    async def getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 (Faust's signature)
    ) -> dict[TP, list[Batch]]:
        fetched = await super().getmany(active_partitions, timeout)
        return {tp: [batch] for tp, batch in (fetched or {}).items() if batch}

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 (Faust offers no setting for it)
        return consumer

    def progress(self, tp: TP) -> tuple[int | None, int | None]:
        """Next offset to hand out and end of the partition, as far as known. Does not ask the broker."""
        # What aiokafka shows of it publicly is asked for on its own thread.
        subscription = self._ensure_consumer()._fetcher._subscriptions.subscription  # noqa: SLF001
        assignment = subscription and subscription.assignment
        if not assignment or tp not in assignment.tps:
            return None, None
        state = assignment.state_value(tp)
        return (state.position if state.has_valid_position else None), state.highwater


class BatchConsumer(driver.Consumer):
    """Commits behind confirmed batches.

    Faust's own bookkeeping wants an ack for every single offset: it takes the offsets between two batches, and a
    batch's own last one, for gaps, and after a restart commits nothing ever again. Batches are confirmed in order, so
    one number per partition says it all.
    """

    logger = _logger

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._next_offsets: dict[TP, int] = {}
        self.committed_at: float | None = None
        """When a commit succeeded last, on the monotonic clock."""
        super().__init__(*args, **kwargs)

    def waiting_partitions(self) -> list[TP]:
        """Assigned partitions with records that are fetched and not confirmed, or not even fetched. Does not block."""
        waiting = []
        for tp in self.assignment():
            position, highwater = cast("BatchThread", self._thread).progress(tp)
            done = self._next_offsets.get(tp, self._committed_offset.get(tp))
            read = self._read_offset.get(tp)
            # After a seek Faust's read offset is the next one to come: only a greater one says that a batch is open.
            open_batch = read is not None and done is not None and read > done
            if open_batch or (position is not None and highwater is not None and position < highwater):
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
        self._next_offsets[message.tp] = max(message.next_offset, self._next_offsets.get(message.tp, 0))
        self._n_acked += 1
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust waits here until batches in work are confirmed, and commits them; what is left belongs to the next."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._next_offsets.pop(tp, None)

    def on_buffer_full(self, tp: TP) -> None:
        """Do not stop fetching from the partition: the full queue itself holds the fetch loop back.

        Faust would fetch from the others only, and sleeps for a second when those have nothing, while the queue
        drains in a tenth of that.
        """

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Batch) -> BatchMessage:
        last = record[-1]
        return BatchMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000.0,
            timestamp_type=last.timestamp_type,
            headers=[],
            key=None,
            value=cast("Any", record),
            checksum=None,
            tp=tp,
            # A message without the current generation is skipped by streams, silently.
            generation_id=self.app.consumer_generation_id,
        )

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._next_offsets) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._next_offsets.get(tp)

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
        await self._commit({tp: 0 for tp in self.assignment() if tp.topic in topics})

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Keep no account of gaps: it would grow with every batch and nothing reads it."""


class BatchTransport(driver.Transport):
    """Kafka through aiokafka, in batches."""

    Consumer = BatchConsumer


class BatchApp(faust.App):
    """A Faust app on the batch transport, without Faust's web server (it binds a fixed port for each worker)."""

    logger = _logger

    class BootStrategy(faust.app.base.BootStrategy):
        """What starts with the app."""

        enable_web = False

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)
