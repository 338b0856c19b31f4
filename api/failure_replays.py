"""Replay jobs and releases that this process runs, in the background of its answers."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from runtime.errors import DeliveryFailed
from runtime.settings import Settings
from services.failures import replay
from services.failures.release import release
from services.failures.selection import Selection
from stores.failure_states import ActionRefused
from stores.outages import postgres_trouble

log = structlog.get_logger()

Work = Callable[[], Awaitable[object]]


class FailureReplays:
    """Starts jobs and forgets them: their progress is in Postgres, for every process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, job_id: int, who: str) -> None:
        """Let the job run. Returns at once."""
        work = partial(replay.run, self._settings, job_id, who)
        self._begin(work, "replay_stopped", "replay_failed", job=job_id)

    def release(self, selection: Selection, who: str, *, remap: bool) -> None:
        """Release held records. Returns at once."""
        work = partial(release, self._settings, selection, who, remap=remap)
        self._begin(work, "release_stopped", "release_failed")

    def _begin(self, work: Work, stopped: str, failed: str, **about: int) -> None:
        task = asyncio.create_task(_logged(work, stopped, failed, **about))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Pause the jobs that are running here, and wait until they are."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _logged(work: Work, stopped: str, failed: str, **about: int) -> None:
    try:
        await work()
    except (ActionRefused, DeliveryFailed) as error:
        log.warning(stopped, reason=str(error), **about)
    except Exception as error:
        if reason := postgres_trouble(error):
            log.warning(stopped, reason=reason, **about)
        else:
            log.exception(failed, **about)
