"""Memory of busy processes: heaps for few threads, and seldom a look for cycles."""

import contextlib
import ctypes
import gc

ARENAS = 2

_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_memory_among_threads() -> None:
    """Keep glibc from giving each thread a heap of its own. To be called before there are threads. Elsewhere a no-op.

    A batch is polled in one thread and let go in another, and the next one comes in a third: with a heap for each of
    them (eight per core), what they have freed stays with the process several times over.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def spare_the_collector() -> None:
    """Have Python look for cycles seldom. To be called once everything is imported.

    Batches of records, and requests, live briefly and form few cycles. Looking for some after every 700 objects takes
    up to a quarter of the time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
