"""Structured logs of every process: JSON lines for machines, coloured lines on a terminal."""

import asyncio
import atexit
import io
import logging
import re
import sys
import threading
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from runtime.printable import printable
from runtime.server_addresses import without_secrets
from runtime.settings import Settings
from runtime.tracing import add_trace_id

# Clients that print a line per connection attempt; our own processes log once per state change instead.
_CHATTY = (
    "aiokafka",
    "alembic",
    "asyncio",
    "elastic_transport",
    "faust",
    "httpcore",
    "httpx",
    "kafka",
    "mode",
    "uvicorn",
)


_ADDRESS = re.compile(
    r"(\x1b\[[\d;]*m|\\[^u])?"  # a colour's or JSON's escape stays whole
    r"(?:\\u[0-9a-fA-F]{4}|[^\s/:;,@\"'<>()\[\]{}=\\\x1b]){1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){0,8}\.[A-Za-z]{2,24}"
)
"""An e-mail address, as far as anybody can tell by its form."""

_HIDDEN = r"\g<1>(address)"

HOLD_SECONDS = 0.1
MOST_HELD = 200


def harmless(_logger: object, _level: str, line: str) -> str:
    """The rendered line without e-mail addresses and what is secret in URLs, whoever brought them: a key, a path, a
    server's message. Pure.
    """
    line = without_secrets(line)
    return _ADDRESS.sub(_HIDDEN, line) if "@" in line else line


def one_line(_logger: object, _level: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event with control characters of its texts written as escapes: on a terminal nobody moves the cursor, and
    nobody begins a line that looks like one of ours. Pure.
    """
    return {name: printable(value.strip()) if isinstance(value, str) else value for name, value in event.items()}


def _traceback(stream: TextIO, error: structlog.typing.ExcInfo) -> None:
    """The same for an error, whose message may be anything: its lines are indented."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, error)
    stream.write("\n".join([f"  {printable(line)}" for line in plain.getvalue().rstrip("\n").split("\n")]) + "\n")


class _Lines:
    """Writes our own events, a line each, from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held: list[str] = []
        self._adding = threading.RLock()  # a signal's handler may write in the middle of a line

    def msg(self, line: str) -> None:
        """Write it at once. A line that cannot be written, as on a full disk or from within another write, is lost and
        stops nobody.
        """
        self._add(line)
        self.flush()

    def _add(self, line: str) -> int:
        with self._adding:
            self._held.append(f"{line}\n")
            return len(self._held)

    def flush(self) -> None:
        """Write what is held."""
        with self._adding:
            held, self._held = self._held, []
        if held:
            with suppress(OSError, ValueError, RuntimeError):
                self._stream.write("".join(held))
                self._stream.flush()

    debug = info = warning = error = critical = msg


class _HeldLines(_Lines):
    """The same, but lines that tell of nothing bad wait up to HOLD_SECONDS for others, where an event loop runs.

    Each write wakes up who reads the lines, which on a busy machine takes as long as a request. A process that is
    killed loses what it holds; one that ends in any other way does not.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        atexit.register(self.flush)

    def hold(self, line: str) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.msg(line)
            return
        count = self._add(line)
        if count == 1:
            loop.call_later(HOLD_SECONDS, self.flush)
        elif count >= MOST_HELD:
            self.flush()

    debug = info = hold


def configure_logging(settings: Settings, role: str, *, held: bool = False) -> None:
    """Set up structlog and the standard library's logging to write to stderr; idempotent. No e-mail address is written,
    and no password or token of a URL.

    Every line carries `role` and `worker`; `log_format` auto means console on a terminal, JSON otherwise. `held` is for
    processes that write a line per request: lines that tell of nothing bad are up to HOLD_SECONDS late.
    """
    level = logging.getLevelNamesMapping()[settings.log_level]
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    hide = cast("structlog.typing.Processor", harmless)  # what comes after the renderer gets its text
    escape = cast("structlog.typing.Processor", one_line)
    final = [escape, renderer, hide] if console else [structlog.processors.format_exc_info, renderer, hide]
    lines = (_HeldLines if held else _Lines)(sys.stderr)
    structlog.configure(
        # Not by way of the standard library, whose records cost more than all the rest of a line.
        processors=[*shared, *final],
        logger_factory=lambda *_: lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[without_meta, *final])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.ERROR))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role, worker=settings.worker_id)
