"""`headrace monitor`: samples the lag of all consumer groups, judges it, and tells of alarms."""

import asyncio
from typing import Any

import structlog

from runtime.health import HealthServer
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from runtime.stop_signals import on_stop_signal
from services.alarms.alarms import Alarms
from services.lag_metrics import LagMetrics
from services.monitor import Monitor

log = structlog.get_logger()


def monitor() -> None:
    """Sample every consumer group of the broker every 5 s, and keep what was seen; until stopped.

    Part of the local stack. `headrace lag`, GET /lag and the alarms judge by what it has seen over the last ten
    minutes, which it keeps in Postgres, as it does figures of every minute for LAG_HISTORY_HOURS. It commits nothing,
    joins no group, and goes on while Kafka or Postgres is away. Alarms follow the rules in ALARMS_FILE, which is read
    again when it changes.

    Example:

      HEALTH_PORT=8109 headrace monitor
    """
    settings = load_settings()
    configure_logging(settings, "monitor")
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stopping = asyncio.Event()
    on_stop_signal(stopping.set)
    alarms = Alarms(settings)
    watch = Monitor(settings, (LagMetrics(alarms).take, alarms.take))

    def health() -> dict[str, Any]:
        of_alarms = alarms.health()
        degraded = {"degraded": of_alarms.pop("degraded")} if "degraded" in of_alarms else {}
        return {**watch.health(), "alarms": of_alarms, **degraded}

    with HealthServer(settings.health_port, health, "monitor", settings.health_bind):
        log.info("monitor_started")
        await asyncio.gather(watch.run(stopping), alarms.run(stopping))
    log.info("monitor_stopped")
