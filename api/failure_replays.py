"""Replay jobs and releases that this process runs, in the background of its answers."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from runtime.errors import DeliveryFailed
from services.failures.desk import Desk
from services.failures.selection import Selection
from stores.failure_states import ActionRefused
from stores.unavailable import postgres_trouble

log = structlog.get_logger()


class FailureReplays:
    """Starts jobs and forgets them: how they stand is in Postgres, for every process."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, job_id: int, who: str) -> None:
        """Let the job run. Returns at once."""
        self._begin(self._run(job_id, who))

    def release(self, selection: Selection, who: str, *, remap: bool) -> None:
        """Release held records. Returns at once."""
        self._begin(self._release(selection, who, remap))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Pause the jobs that are running here, and wait until they are."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _release(self, selection: Selection, who: str, remap: bool) -> None:
        try:
            await self.desk.release(selection, who, remap=remap)
        except (ActionRefused, DeliveryFailed) as error:
            log.warning("release_stopped", reason=str(error))
        except Exception as error:
            if reason := postgres_trouble(error):
                log.warning("release_stopped", reason=reason)
            else:
                log.exception("release_failed")

    async def _run(self, job_id: int, who: str) -> None:
        try:
            await self.desk.run(job_id, who)
        except (ActionRefused, DeliveryFailed) as error:
            log.warning("replay_stopped", job=job_id, reason=str(error))
        except Exception as error:
            if reason := postgres_trouble(error):
                log.warning("replay_stopped", job=job_id, reason=reason)
            else:
                log.exception("replay_failed", job=job_id)
