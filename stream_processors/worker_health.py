"""Watches a running normalizer from inside: is Kafka reachable, are records that wait being confirmed.

A worker may be idle, or hold no partitions because there are more workers than partitions: both are healthy. After
a broker loss a Faust worker can stay connected and do nothing (faust-streaming issues 175, 523, 640); a worker whose
records wait while nothing is confirmed therefore ends itself, and the supervisor starts a new one.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, cast

import faust
import structlog
from confluent_kafka import Producer

from runtime.kafka.trouble import KafkaTrouble
from stream_processors.batch_transport import BatchConsumer
from stream_processors.confirmations import Confirmations
from stream_processors.held import REMEDY
from stream_processors.normalizer_metrics import Counts

log = structlog.get_logger()

WATCH_SECONDS = 5.0
ASK_TIMEOUT_SECONDS = 4.0
STALLED_SECONDS = 60.0
"""Records wait and none was confirmed for so long: unhealthy. Longer than Faust needs to come back after an outage."""
GIVE_UP_SECONDS = 180.0
"""Stalled for so long with Kafka reachable: end the process. After a 60 s outage Faust needs about a minute."""


class Stalled(Exception):
    """Records wait, Kafka answers, and nothing has been confirmed for a long time."""


class WorkerHealth:
    """The state that `/health` shows. `watch` runs on the event loop, `details` may be called from any thread."""

    def __init__(self, app: faust.App, producer: Producer, confirmations: Confirmations, counts: Counts) -> None:
        self._app = app
        self._producer = producer
        self._confirmations = confirmations
        self._counts = counts
        self._partitions: list[str] | None = None
        """None until the worker has joined its group; empty where others hold all partitions."""
        self._kafka = KafkaTrouble()
        self._waiting: list[str] = []
        self._moved_at = time.monotonic()
        self._progress_seen: tuple[int, float | None] = (0, None)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)  # type: ignore[arg-type]

    async def watch(self) -> None:
        """Look every few seconds, for ever. Raises Stalled when only a new process can help."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with self._kafka.noted():
                await asyncio.to_thread(self._producer.list_topics, timeout=ASK_TIMEOUT_SECONDS)
            self._look_for_progress()
            if self._kafka.problem is None and self._stalled_seconds > GIVE_UP_SECONDS:
                raise Stalled(f"{', '.join(self._waiting)}: nothing confirmed for {self._stalled_seconds:.0f} s")

    def details(self) -> dict[str, Any]:
        """Details to show, with `problem` if something is wrong, `degraded` while records are held. Does not block."""
        # Faust makes its consumer at the first look, and that must not be here: it belongs to the loop of the app.
        committed_at = self._consumer.committed_at if self._partitions is not None else None
        details: dict[str, Any] = {
            "partitions": self._partitions,
            "records_in": self._counts.records_in,
            "records_out": self._counts.records_out,
            "records_failed": self._counts.records_failed,
            "oldest_unconfirmed_seconds": round(self._confirmations.oldest_seconds, 1),
            "last_commit_seconds_ago": None if committed_at is None else round(time.monotonic() - committed_at, 1),
        }
        if holding := {dataset: sources for dataset, sources in self._counts.holding.items() if sources}:
            details["holding"] = holding
            details["degraded"] = _told(holding)
        if problem := self._problem():
            details["problem"] = problem
        return details

    @property
    def _consumer(self) -> BatchConsumer:
        return cast("BatchConsumer", self._app.consumer)

    @property
    def _stalled_seconds(self) -> float:
        return time.monotonic() - self._moved_at if self._waiting else 0.0

    def _problem(self) -> str | None:
        if self._app.crashed:
            return f"crashed: {self._app.crash_reason!r}"
        if self._kafka.problem:
            return f"kafka: {self._kafka.problem}"
        if self._partitions is None:
            return "has not joined the consumer group yet"
        if self._stalled_seconds > STALLED_SECONDS:
            return f"records wait in {', '.join(self._waiting)}, none confirmed for {self._stalled_seconds:.0f} s"
        return None

    def _look_for_progress(self) -> None:
        waiting = self._consumer.waiting_partitions() if self._partitions else []
        self._waiting = [f"{tp.topic}/{tp.partition}" for tp in waiting]
        # Where all is aborted nothing is ever confirmed, but the group moves on.
        committed_at = self._consumer.committed_at if self._partitions else None
        progress = self._counts.records_out + self._counts.records_failed, committed_at
        if progress != self._progress_seen or not self._waiting or self._kafka.problem:
            self._progress_seen = progress
            self._moved_at = time.monotonic()

    async def _on_assigned(self, _: Any, assigned: Any, **__: Any) -> None:
        self._partitions = sorted(f"{tp.topic}/{tp.partition}" for tp in assigned)
        log.info("partitions_assigned", partitions=self._partitions)


def _told(holding: Mapping[str, Mapping[str, str]]) -> str:
    sources = [
        f"{source} ({dataset}: {why})" for dataset, found in holding.items() for source, why in sorted(found.items())
    ]
    return f"over FAILURE_LIMIT_PERCENT, so that their records are held: {', '.join(sources)}; {REMEDY}"
