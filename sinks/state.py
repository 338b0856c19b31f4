"""The state of a sink's loop as others see it: health details, metrics, and one log line per change."""

import time
from typing import Any

import structlog

from runtime.errors import Backpressure
from runtime.failure_limit import FailureLimitReached
from runtime.instruments import from_zero
from runtime.metrics import (
    SINK_BATCH_RECORDS,
    SINK_BATCHES,
    SINK_FAILURE_LIMIT,
    SINK_GONE,
    SINK_RECORDS,
    SINK_RETRIES,
    SINK_WAITING,
    SINK_WRITE_SECONDS,
)

CONFIRM_PATIENCE_SECONDS = 30.0
"""A broker that takes longer to confirm, or a store to answer a write, makes the sink unhealthy."""

log = structlog.get_logger()


class SinkState:
    """Written by the loop, read by the health server's thread; every attribute is replaced, never mutated."""

    def __init__(self, sink: str) -> None:
        self._sink = sink
        self.records = 0
        self._last_batch_at: float | None = None
        self._waiting: tuple[float, Backpressure] | None = None
        self._writing_since: float | None = None
        self._unconfirmed_since: float | None = None
        self._gone: dict[str, int] = {}
        for metric in (SINK_RECORDS, SINK_BATCHES, SINK_BATCH_RECORDS, SINK_WRITE_SECONDS, SINK_RETRIES):
            from_zero(metric, [sink])

    def write_began(self) -> None:
        self._writing_since = time.monotonic()

    def wrote(self, records: int) -> None:
        now = time.monotonic()
        if self._writing_since is not None:
            SINK_WRITE_SECONDS.labels(self._sink).observe(now - self._writing_since)
        SINK_RECORDS.labels(self._sink).inc(records)
        SINK_BATCHES.labels(self._sink).inc()
        SINK_BATCH_RECORDS.labels(self._sink).observe(records)
        self.records += records
        self._last_batch_at, self._writing_since = now, None
        self._unconfirmed_since = self._unconfirmed_since or now
        self.store_answers()

    def committed(self) -> None:
        """Everything written so far is confirmed and committed."""
        self._unconfirmed_since = None

    def store_is_down(self, verdict: Backpressure) -> None:
        """Logs at the change of state only."""
        self._writing_since = None
        SINK_RETRIES.labels(self._sink).inc()
        if self._waiting is None or self._waiting[1].state != verdict.state:
            log.warning(verdict.state, sink=self._sink, store=verdict.store, reason=verdict.reason)
            self._show(verdict.state)
        self._waiting = (self._waiting[0] if self._waiting else time.monotonic(), verdict)

    def store_answers(self) -> None:
        """Logs at the change of state only."""
        if self._waiting is not None:
            seconds = round(time.monotonic() - self._waiting[0], 1)
            log.info("store_is_back", sink=self._sink, store=self._waiting[1].store, waited_seconds=seconds)
            self._show(None)
            self._waiting = None

    def _show(self, state: str | None) -> None:
        SINK_WAITING.labels(self._sink).set(state == Backpressure.state)
        SINK_FAILURE_LIMIT.labels(self._sink).set(state == FailureLimitReached.state)

    def gone(self, topic: str, offsets: int) -> None:
        """Retention has taken so many offsets of a physical topic before they were read."""
        SINK_GONE.labels(self._sink, topic).inc(offsets)
        self._gone = {**self._gone, topic: self._gone.get(topic, 0) + offsets}

    def details(self) -> dict[str, Any]:
        now = time.monotonic()
        waiting, last, writing, unconfirmed = (
            self._waiting,
            self._last_batch_at,
            self._writing_since,
            self._unconfirmed_since,
        )
        details: dict[str, Any] = {
            "state": waiting[1].state if waiting else "running",
            "records": self.records,
            "last_batch_seconds_ago": None if last is None else round(now - last, 1),
        }
        if writing:
            details["writing_seconds"] = round(now - writing, 1)
        if self._gone:
            details["records_gone"] = self._gone
        if waiting and now - waiting[0] >= waiting[1].patience_seconds:
            details["problem"] = f"held up {now - waiting[0]:.0f} s by {waiting[1].store}: {waiting[1].reason}"
        elif writing and now - writing > CONFIRM_PATIENCE_SECONDS:
            details["problem"] = f"the store has not answered a write for {now - writing:.0f} s"
        elif unconfirmed and now - unconfirmed > CONFIRM_PATIENCE_SECONDS:
            details["problem"] = f"Kafka has confirmed nothing for {now - unconfirmed:.0f} s"
        return details
