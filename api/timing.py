"""How long the parts of one request took, for its Server-Timing header."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

timings: ContextVar[dict[str, float] | None] = ContextVar("timings", default=None)
"""Milliseconds per part of the current request; None outside of one."""


@contextmanager
def measured(part: str) -> Iterator[None]:
    """Add the time spent in the body to `part` of the current request."""
    parts = timings.get()
    started = time.perf_counter()
    try:
        yield
    finally:
        if parts is not None:
            parts[part] = parts.get(part, 0.0) + (time.perf_counter() - started) * 1000


def server_timing(parts: dict[str, float], total: float) -> str:
    """The header's value (W3C Server Timing), durations in ms."""
    return ", ".join(f"{name};dur={spent:.2f}" for name, spent in {**parts, "total": total}.items())
