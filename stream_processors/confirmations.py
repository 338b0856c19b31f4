"""Batches whose outputs the broker has yet to confirm: bounded in bytes, acked per partition in order of arrival.

Waiting for confirmations in the background instead of after each batch keeps latency at a batch's own time: flushing
after each batch let small batches pile up behind the one being confirmed (2.4 s at 1,000 records/s, against 40 ms).
Everything happens on the event loop, delivery callbacks too: on a thread of their own each of them would fight the
agent for the interpreter, since `produce` lets go of it for every record. So this is none of the senders of
runtime/kafka/confirmed.py: those wait in a thread, for one caller's messages, and know nothing of an order of batches.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable

from confluent_kafka import KafkaError, Message, Producer

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import delivery_error, refusal

SERVE_SECONDS = 0.002
"""Between two looks for delivery reports while batches are outstanding; nothing is done while none is."""


class Outstanding:
    """One batch on its way. `delivered` is the delivery callback of each of its outputs."""

    __slots__ = ("_confirmations", "_expected", "_received", "confirm", "size", "started")

    def __init__(self, confirmations: "Confirmations", size: int, confirm: Callable[[], None]) -> None:
        self._confirmations = confirmations
        self._expected = -1
        self._received = 0
        self.size = size
        self.confirm = confirm
        self.started = time.monotonic()

    @property
    def complete(self) -> bool:
        """All outputs were produced, and the broker has confirmed each."""
        return self._received == self._expected

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Called from `poll`, once per output."""
        if (trouble := delivery_error(error, message)) is not None:
            self._confirmations.report_failure(DeliveryFailed(refusal(trouble, message)))
            return
        self._received += 1
        if self._received == self._expected:
            self._confirmations.report_complete()

    def expect(self, outputs: int) -> None:
        """Say that all outputs were produced, and how many. Until then the batch is never complete."""
        self._expected = outputs
        if self._received == outputs:
            self._confirmations.report_complete()


class Confirmations:
    """The outstanding batches of all partitions. Build and use it on the event loop."""

    def __init__(self, max_bytes: int, on_failure: Callable[[DeliveryFailed], None]) -> None:
        self._max_bytes = max_bytes
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._queues: dict[tuple[str, int], deque[Outstanding]] = defaultdict(deque)
        self._bytes = 0
        self._room = asyncio.Condition()
        self._busy = asyncio.Event()
        self._scheduled = False
        self._failed = False

    async def begin(self, partition: tuple[str, int], size: int, confirm: Callable[[], None]) -> Outstanding:
        """Enter a batch of `size` bytes; waits while too many bytes are outstanding. One larger than that goes alone.

        `confirm` is called on the event loop when the batch and all before it in its partition are complete.
        """
        async with self._room:
            await self._room.wait_for(lambda: self._bytes == 0 or self._bytes + size <= self._max_bytes)
            self._bytes += size
        batch = Outstanding(self, size, confirm)
        self._queues[partition].append(batch)
        self._busy.set()
        return batch

    @property
    def oldest_seconds(self) -> float:
        """Age of the oldest batch outstanding, 0 if there is none. May be called from any thread."""
        started = [queue[0].started for queue in list(self._queues.values()) if queue]
        return time.monotonic() - min(started) if started else 0.0

    def report_complete(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._confirm_in_order)

    def report_failure(self, error: DeliveryFailed) -> None:
        """An output is lost, so nothing may be confirmed any more."""
        if not self._failed:
            self._failed = True
            self._on_failure(error)

    async def serve(self, producer: Producer) -> None:
        """Serve the producer's delivery callbacks while batches are outstanding, for ever."""
        while True:
            await self._busy.wait()
            producer.poll(0)
            await asyncio.sleep(SERVE_SECONDS)

    def _confirm_in_order(self) -> None:
        self._scheduled = False
        freed = 0
        for queue in self._queues.values():
            while queue and queue[0].complete and not self._failed:
                batch = queue.popleft()
                freed += batch.size
                batch.confirm()
        if not any(self._queues.values()):
            self._busy.clear()
        if freed:
            self._bytes -= freed
            self._loop.create_task(self._wake_waiters())

    async def _wake_waiters(self) -> None:
        async with self._room:
            self._room.notify_all()
