"""Runs a blocking iterator in a thread of its own and hands its items to async code, a bounded number ahead."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

AHEAD = 4
"""Items read ahead of the consumer: keeps the thread busy while a batch is sent, and memory bounded."""


async def read_in_background(open_items: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Yield what `open_items()` yields, in order; an exception of the iterator is raised here.

    The thread is a daemon: when the consumer leaves early the iterator is closed at its next item, and one that is
    blocked (standard input of a terminal) does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[T | None, BaseException | None, bool]] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)
    left = threading.Event()

    def hand_over(item: T | None, error: BaseException | None, end: bool) -> None:
        try:
            loop.call_soon_threadsafe(arrived.put_nowait, (item, error, end))
        except RuntimeError:
            left.set()  # the loop is closed: nobody waits any more

    def read() -> None:
        try:
            items = open_items()
            try:
                for item in items:
                    room.acquire()
                    if left.is_set():
                        return
                    hand_over(item, None, False)
            finally:
                if close := getattr(items, "close", None):
                    close()
        except BaseException as error:  # noqa: BLE001 (raised again in the consumer)
            hand_over(None, error, True)
        else:
            hand_over(None, None, True)

    context = contextvars.copy_context()  # log lines of the thread carry what is bound here
    threading.Thread(target=context.run, args=(read,), name="source-reader", daemon=True).start()
    try:
        while True:
            item, error, end = await arrived.get()
            if error is not None:
                raise error
            if end:
                return
            room.release()
            yield item  # type: ignore[misc]  # an item is there unless it is the end
    finally:
        left.set()
        room.release()
