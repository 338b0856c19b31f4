"""Memory that a process gives back, or uses again, instead of keeping it per thread."""

import contextlib
import ctypes

ARENAS = 2

_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_memory_among_threads() -> None:
    """Keep glibc from giving each thread a heap of its own. To be called before there are threads. Elsewhere a no-op.

    A batch is polled in one thread and let go in another, and the next one comes in a third: with a heap for each of
    them (eight per core), what they have freed stays with the process several times over.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
