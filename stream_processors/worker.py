"""Runs the normalizer as a process: start, watch, drain on a signal, end at once when something is lost."""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Collection
from typing import NoReturn, cast

import faust
import structlog
from confluent_kafka import KafkaException

from runtime.health import HealthServer
from runtime.kafka.clients import reason
from runtime.kafka.group_members import start_over
from runtime.kafka.topic_admin import TopicRecreated, ensure_topics, watch_topics
from runtime.memory import share_memory_among_threads, spare_the_collector
from runtime.settings import Settings
from runtime.stop_signals import on_stop_signal
from stores.epochs import raw_topics
from stream_processors.app import GROUP, OUTSTANDING_BYTES, create_app, output_producer
from stream_processors.batch_transport import BatchConsumer
from stream_processors.confirmations import Confirmations
from stream_processors.normalizer import NormalizerStage
from stream_processors.normalizer_metrics import Counts
from stream_processors.worker_health import WorkerHealth

log = structlog.get_logger()

EXIT_CRASHED = 70
"""EX_SOFTWARE of sysexits.h."""

DRAIN_SECONDS = 15.0
"""For confirming and committing what is in work after SIGTERM, within what supervisors usually grant."""

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 10.0


class Ending:
    """The end of the worker, once it is called for: by a signal (None), or by the first error. On the event loop."""

    def __init__(self) -> None:
        self._reason: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def call(self, error: BaseException | None = None) -> None:
        """End the worker. Later errors follow from the first."""
        if not self._reason.done():
            self._reason.set_result(error)

    def watch(self, work: Awaitable[object]) -> "asyncio.Future[object]":
        """Run something whose error ends the worker."""

        def done(task: "asyncio.Future[object]") -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.call(error)

        task = asyncio.ensure_future(work)
        task.add_done_callback(done)
        return task

    async def called(self) -> BaseException | None:
        """Wait until it is called for; returns the error."""
        return await asyncio.shield(self._reason)

    @property
    def pending(self) -> bool:
        """True while the worker is to go on."""
        return not self._reason.done()


async def run_worker(settings: Settings, stage_of: Callable[..., NormalizerStage] = NormalizerStage) -> None:
    """Run until SIGTERM or SIGINT, then drain and return. Waits for a Kafka that cannot be reached yet.

    Ends the process with EXIT_CRASHED when an output could not be delivered or anything else broke: what was in work
    is not acknowledged then, and comes again. `stage_of` as in `create_app`.
    """
    share_memory_among_threads()
    # It prints a line per connection try; WorkerHealth says once when Kafka is lost and when it is back.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    ending = Ending()
    on_stop_signal(ending.call)
    await _ensure_topics(settings, ending)
    if not ending.pending:
        return
    producer, counts = output_producer(settings), Counts()
    confirmations = Confirmations(OUTSTANDING_BYTES, ending.call)
    app = create_app(settings, producer, confirmations, counts, ending.call, stage_of)
    health = WorkerHealth(app, producer, confirmations, counts)
    with HealthServer(settings.health_port, health.details, "normalizer", settings.health_bind):
        app.in_worker = True
        spare_the_collector()
        serving = ending.watch(confirmations.serve(producer))
        starting = ending.watch(app.start())

        async def rewind(topics: Collection[str]) -> None:
            # Faust makes its consumer at the first look, and that must be on the event loop that it has started.
            await cast("BatchConsumer", app.consumer).rewind(topics)

        watches = (health.watch(), watch_topics(settings, list(raw_topics(settings)), rewind), _until_crashed(app))
        watching = [ending.watch(one) for one in watches]
        error = await ending.called()
        for task in watching:
            task.cancel()
        if error is None:
            log.info("normalizer_draining")
            try:
                await asyncio.wait_for(app.stop(), DRAIN_SECONDS)
            except TimeoutError:
                error = TimeoutError(f"not drained within {DRAIN_SECONDS:g} s; what was in work comes again")
        if isinstance(error, TopicRecreated):
            await start_over(settings, GROUP, error.topics)
        if error is not None:
            _end_at_once(error)
        starting.cancel()
        serving.cancel()
    log.info("normalizer_stopped", records=counts.records_in)


async def _ensure_topics(settings: Settings, ending: Ending) -> None:
    """Wait until Kafka answers and all topics exist, or the worker is to end. Logs once that it waits."""
    wait, told = FIRST_RETRY_SECONDS, False
    while ending.pending:
        try:
            await asyncio.to_thread(ensure_topics, settings)
        except KafkaException as error:
            if not told:
                log.warning("waiting_for_kafka", servers=settings.kafka_bootstrap_servers, problem=reason(error))
                told = True
            await asyncio.wait([asyncio.ensure_future(ending.called())], timeout=wait)
            wait = min(wait * 2, LAST_RETRY_SECONDS)
        else:
            return


async def _until_crashed(app: faust.App) -> None:
    """Raise the reason when a service of the app crashes."""
    await app.wait_until_stopped()
    if app.crashed:
        raise app.crash_reason or RuntimeError("the Faust app crashed without a reason")


def _end_at_once(error: BaseException) -> NoReturn:
    """End without the ways that Faust takes when it stops: they wait for acks that must not come."""
    log.critical("normalizer_crashed", error=repr(error), exc_info=error)
    sys.stderr.flush()
    os._exit(EXIT_CRASHED)
