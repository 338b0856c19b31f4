"""The request that is being answered: its id, and the time that its parts took."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "X-Request-ID"

# Long enough for any tracing system's id; no white space or control characters, which could forge log lines.
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")

_current: ContextVar[str] = ContextVar("request_id", default="")

key_name: ContextVar[str] = ContextVar("key_name", default="")
"""Name of the key, or subject of the token, by which the current request is asked; empty where nobody need say."""

timings: ContextVar[dict[str, float] | None] = ContextVar("timings", default=None)
"""Milliseconds per part of the current request; None outside of one."""


def request_id_from(header: str | None) -> str:
    """The caller's id if it is fit for a log line, otherwise a new random one."""
    return header if header is not None and _SANE.fullmatch(header) else os.urandom(16).hex()


def current_request_id() -> str:
    """Empty outside of a request."""
    return _current.get()


def bind_request_id(request_id: str) -> None:
    """Make it the current one, for this request's context."""
    _current.set(request_id)


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
    """Value of the header Server-Timing (W3C), durations in ms."""
    return ", ".join(f"{name};dur={spent:.2f}" for name, spent in {**parts, "total": total}.items())
