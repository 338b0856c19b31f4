"""Replay jobs that this process runs, in the background of its answers."""

import asyncio

import structlog

from api.unavailable import postgres_trouble
from runtime.errors import DeliveryFailed
from runtime.failures.desk import Desk
from runtime.failures.states import ActionRefused

log = structlog.get_logger()


class FailureReplays:
    """Starts jobs and forgets them: how they stand is in Postgres, for every process."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, job_id: int, who: str) -> None:
        """Let the job run. Returns at once."""
        task = asyncio.create_task(self._run(job_id, who))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Pause the jobs that are running here, and wait until they are."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
