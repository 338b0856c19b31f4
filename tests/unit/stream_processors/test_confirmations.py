"""Batches are confirmed in order of arrival, only when the broker has everything, and bounded in bytes."""

import asyncio
from typing import Any, cast

from confluent_kafka import KafkaError, Message

from runtime.errors import DeliveryFailed
from stream_processors.confirmations import SERVE_SECONDS, Confirmations, Outstanding
from tests.waiting import eventually_async

A, B = ("raw", 0), ("raw", 1)


class Scene:
    """Confirmations that note what was confirmed and what failed."""

    def __init__(self, max_bytes: int = 100) -> None:
        self.confirmed: list[str] = []
        self.failed: list[DeliveryFailed] = []
        self.confirmations = Confirmations(max_bytes, self.failed.append)

    async def begin(self, name: str, partition: tuple[str, int] = A, size: int = 1) -> Outstanding:
        return await self.confirmations.begin(partition, size, lambda: self.confirmed.append(name))


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def deliver(batch: Outstanding, count: int = 1, error: KafkaError | None = None) -> None:
    for _ in range(count):
        batch.delivered(error, Message(topic="clean", partition=0, offset=7))


async def test_a_batch_is_confirmed_when_its_last_output_is_delivered() -> None:
    scene = Scene()
    batch = await scene.begin("first")
    batch.expect(2)
    deliver(batch)
    await turn()
    assert scene.confirmed == []
    deliver(batch)
    await turn()
    assert scene.confirmed == ["first"]


async def test_a_batch_is_not_confirmed_before_all_its_outputs_were_produced() -> None:
    scene = Scene()
    batch = await scene.begin("first")
    deliver(batch, 2)
    await turn()
    assert scene.confirmed == []
    batch.expect(2)
    await turn()
    assert scene.confirmed == ["first"]


async def test_batches_of_a_partition_are_confirmed_in_order_and_others_do_not_wait() -> None:
    scene = Scene()
    first, second, other = await scene.begin("first"), await scene.begin("second"), await scene.begin("other", B)
    for batch in (first, second, other):
        batch.expect(1)
    deliver(second)
    deliver(other)
    await turn()
    assert scene.confirmed == ["other"]
    deliver(first)
    await turn()
    assert scene.confirmed == ["other", "first", "second"]


async def test_nothing_is_confirmed_after_a_failed_delivery() -> None:
    scene = Scene()
    first, second = await scene.begin("first"), await scene.begin("second", B)
    first.expect(1)
    second.expect(1)
    deliver(first, error=KafkaError(KafkaError._MSG_TIMED_OUT))
    deliver(second)
    deliver(second, error=KafkaError(KafkaError._MSG_TIMED_OUT))
    await turn()
    assert scene.confirmed == []
    assert len(scene.failed) == 1


async def test_a_batch_waits_while_too_many_bytes_are_outstanding() -> None:
    scene = Scene(max_bytes=100)
    first = await scene.begin("first", size=60)
    first.expect(1)
    waiting = asyncio.ensure_future(scene.begin("second", size=60))
    await turn()
    assert not waiting.done()
    deliver(first)
    (await asyncio.wait_for(waiting, 5)).expect(0)
    await turn()
    assert scene.confirmed == ["first", "second"]


async def test_a_batch_larger_than_all_room_goes_alone() -> None:
    scene = Scene(max_bytes=100)
    (await asyncio.wait_for(scene.begin("giant", size=1000), 5)).expect(1)
    waiting = asyncio.ensure_future(scene.begin("small", size=1))
    await turn()
    assert not waiting.done()
    waiting.cancel()


async def test_the_age_of_the_oldest_batch_is_known() -> None:
    scene = Scene()
    assert scene.confirmations.oldest_seconds == 0.0
    batch = await scene.begin("first")
    assert scene.confirmations.oldest_seconds > 0.0
    batch.expect(0)
    await turn()
    assert scene.confirmations.oldest_seconds == 0.0


async def test_deliveries_are_served_while_batches_are_outstanding_and_not_while_none_is() -> None:
    scene = Scene()
    polls = 0
    batches: list[Outstanding] = []

    class Producer:
        def poll(self, timeout: float) -> int:
            assert timeout == 0, "the event loop must not block"
            nonlocal polls
            polls += 1
            for batch in batches:
                deliver(batch)
            return len(batches)

    serving = asyncio.ensure_future(scene.confirmations.serve(cast("Any", Producer())))
    await turn()
    assert polls == 0
    for name in ("first", "second"):
        batches[:] = [await scene.begin(name)]
        batches[0].expect(1)
        await eventually_async(lambda name=name: _is_in(name, scene.confirmed), what=f"{name} is confirmed", within=5)  # type: ignore[misc]
    after = polls
    batches.clear()
    await asyncio.sleep(5 * SERVE_SECONDS)
    assert polls <= after + 1
    serving.cancel()


async def _is_in(name: str, names: list[str]) -> bool:
    return name in names


async def test_a_report_without_an_offset_is_a_failure() -> None:
    scene = Scene()
    batch = await scene.begin("first")
    batch.expect(1)
    batch.delivered(None, Message(topic="clean"))
    await turn()
    assert scene.confirmed == []
    assert [str(failure) for failure in scene.failed] == ["clean: reported as written, but without an offset"]


async def test_an_output_that_is_too_large_for_its_topic_is_told_with_the_way_out() -> None:
    scene = Scene()
    deliver(await scene.begin("first"), error=KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    (failed,) = scene.failed
    assert str(failed).startswith("clean: ")
    assert "`headrace setup`" in str(failed)
