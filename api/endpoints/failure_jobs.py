"""`/failures/jobs`: replay jobs; any process may pause, cancel or resume any of them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.access import Scope, needs
from api.answers import json_answer
from api.clients import Clients, OurClients, from_state
from api.current_request import current_request_id, key_name
from api.database import writing
from api.endpoints.failure_models import JobId, ReplayJobs, ReplayJobStatus
from api.parameters import StrictRoute
from runtime.errors import DeliveryFailed
from services.failures import replay
from services.failures import replay_jobs as jobs
from services.failures.replay_jobs import ReplayJob
from services.failures.settling import settle
from stores.failure_states import ActionRefused, JobState
from stores.outages import postgres_trouble

log = structlog.get_logger()

router = APIRouter(prefix="/failures/jobs", tags=["failures"], route_class=StrictRoute)


class FailureReplays:
    """Replay jobs and releases that this process runs, behind its answers: their progress is in Postgres, for all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, name: str, work: Coroutine[Any, Any, object], **about: int) -> None:
        """Let it run, and log its end if that is an error. Returns at once."""
        task = asyncio.create_task(_logged(name, work, **about))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Pause the jobs that are running here, and wait until they are."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


OurReplays = Annotated[FailureReplays, from_state("replays")]


@router.get("", response_model=ReplayJobs, summary="The latest replay jobs")
@needs(Scope.READ)
async def replay_jobs(clients: OurClients) -> Response:
    """Newest first."""
    async with settled(clients) as connection:
        return json_answer({"data": await jobs.jobs(connection)})


@router.get("/{job_id}", response_model=ReplayJobStatus, summary="How a replay job stands")
@needs(Scope.READ)
async def replay_job(clients: OurClients, job_id: JobId) -> Response:
    """With the states of its failures now."""
    async with settled(clients) as connection:
        job = await jobs.job(connection, job_id)
        return json_answer(vars(job) | {"outcomes": await jobs.outcomes(connection, job_id)})


@router.post("/{job_id}/pause", response_model=ReplayJob, summary="Pause a replay job")
@needs(Scope.OPERATE)
async def pause_job(clients: OurClients, job_id: JobId) -> Response:
    """Whichever process runs it."""
    return json_answer(await _change(clients, job_id, "paused"))


@router.post("/{job_id}/cancel", response_model=ReplayJob, summary="Cancel a replay job")
@needs(Scope.OPERATE)
async def cancel_job(clients: OurClients, job_id: JobId) -> Response:
    """Failures that it has not sent are open again."""
    return json_answer(await _change(clients, job_id, "cancelled"))


@router.post("/{job_id}/resume", status_code=202, response_model=ReplayJob, summary="Go on with a replay job")
@needs(Scope.OPERATE)
async def resume_job(clients: OurClients, running: OurReplays, job_id: JobId) -> Response:
    """In this process."""
    return started(clients, running, await _change(clients, job_id, "running"))


@asynccontextmanager
async def settled(clients: Clients) -> AsyncIterator[AsyncConnection]:
    """A transaction in which replayed failures have their outcomes."""
    async with writing(clients.engine) as connection:
        await settle(connection, clients.settings.replay_limit)
        yield connection


def started(clients: Clients, running: FailureReplays, job: ReplayJob) -> Response:
    """Let the job run in the background; the answer's Location shows its progress."""
    running.begin("replay", replay.run(clients.settings, job.id, who()), job=job.id)
    return json_answer(job, HTTPStatus.ACCEPTED, {"Location": f"/failures/jobs/{job.id}"})


def who() -> str:
    """The author of an action: the name of the key, where one is asked for, and the request by its id."""
    return ":".join(filter(None, ("api", key_name.get(), current_request_id())))


async def _change(clients: Clients, job_id: int, state: JobState) -> ReplayJob:
    async with settled(clients) as connection:
        if state == "running" and (await jobs.job(connection, job_id)).attended:
            raise ActionRefused(f"replay job {job_id} is being run already")
        limit = clients.settings.replay_limit
        return await jobs.change_state(connection, job_id, state, who(), replay_limit=limit)


async def _logged(name: str, work: Coroutine[Any, Any, object], **about: int) -> None:
    try:
        await work
    except Exception as error:
        known = isinstance(error, ActionRefused | DeliveryFailed)
        if reason := str(error) if known else postgres_trouble(error):
            log.warning(f"{name}_stopped", reason=reason, **about)
        else:
            log.exception(f"{name}_failed", **about)
