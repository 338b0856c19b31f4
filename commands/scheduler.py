"""`headrace scheduler`: runs sources again and again."""

import asyncio

import structlog

from runtime.health import HealthServer
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from runtime.stop_signals import on_stop_signal
from runtime.tracing import start_tracing
from services.runs.scheduler import Scheduler

log = structlog.get_logger()


def scheduler() -> None:
    """Run each source every `interval_seconds` of its block, or every ETL_INTERVAL seconds; until stopped.

    Part of the local stack. Without either, a source is not scheduled; `interval_seconds = 0` takes one out. Starts are
    spread by a tenth of the interval. A source is run by one at a time, whoever asks: a run that is under way elsewhere
    is left alone. A run that fails is recorded and stops nothing. /health shows each source's next start. Every hour it
    takes out of Postgres what is too old, as `headrace prune` does.

    Examples:

      ETL_INTERVAL=300 headrace scheduler

      HEALTH_PORT=8108 headrace scheduler
    """
    settings = load_settings()
    configure_logging(settings, "scheduler")
    start_tracing(settings, "scheduler")
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stopping = asyncio.Event()
    on_stop_signal(stopping.set)
    schedule = Scheduler(settings)
    with HealthServer(settings.health_port, schedule.health, "scheduler", settings.health_bind):
        log.info("scheduler_started", etl_interval=settings.etl_interval)
        await schedule.run(stopping)
    log.info("scheduler_stopped")
