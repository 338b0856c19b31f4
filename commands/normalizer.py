"""`headrace normalizer`: the Faust worker that turns raw records into clean ones and failures."""

import asyncio
from functools import partial

import uvloop

from rehearsals.normalizer import RehearsedStage
from rehearsals.watch import watch_for
from runtime.logging import configure_logging
from runtime.settings import load_settings
from runtime.tracing import start_tracing
from stream_processors.worker import run_worker


def normalizer() -> None:
    """Normalize every dataset's raw records until stopped; `headrace up` runs one or more of these.

    SIGTERM drains what is in work and exits 0. Give each worker a WORKER_ID of its own, the same after a restart.

    Example:

      WORKER_ID=1 HEALTH_PORT=8101 headrace normalizer
    """
    settings = load_settings()
    configure_logging(settings, "normalizer")
    start_tracing(settings, "normalizer")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if watch := watch_for(settings, "normalizer"):
            runner.run(run_worker(settings, partial(RehearsedStage, watch)))
        else:
            runner.run(run_worker(settings))
