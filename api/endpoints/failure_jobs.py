"""`/failures/jobs`: replay jobs; any process may pause, cancel or resume any of them."""

from fastapi import APIRouter, Response

from api.clients import Clients
from api.endpoints.services import OurClients, OurReplays
from api.failure_answers import json_answer, settled, started, who
from api.failure_models import JobId, ReplayJobs, ReplayJobStatus
from services.failures import replay_jobs as jobs
from services.failures.replay_jobs import ReplayJob
from stores.failure_states import ActionRefused, JobState

router = APIRouter(prefix="/failures/jobs", tags=["failures"])


@router.get("", response_model=ReplayJobs, summary="The latest replay jobs")
async def replay_jobs(clients: OurClients) -> Response:
    """Newest first."""
    async with settled(clients) as connection:
        return json_answer({"data": await jobs.jobs(connection)})


@router.get("/{job_id}", response_model=ReplayJobStatus, summary="How a replay job stands")
async def replay_job(clients: OurClients, job_id: JobId) -> Response:
    """With the states of its failures now."""
    async with settled(clients) as connection:
        job = await jobs.job(connection, job_id)
        return json_answer(ReplayJobStatus(**vars(job), outcomes=await jobs.outcomes(connection, job_id)))


@router.post("/{job_id}/pause", response_model=ReplayJob, summary="Pause a replay job")
async def pause_job(clients: OurClients, job_id: JobId) -> Response:
    """Whichever process runs it."""
    return await _change(clients, job_id, "paused")


@router.post("/{job_id}/cancel", response_model=ReplayJob, summary="Cancel a replay job")
async def cancel_job(clients: OurClients, job_id: JobId) -> Response:
    """Failures that it has not sent are open again."""
    return await _change(clients, job_id, "cancelled")


@router.post("/{job_id}/resume", status_code=202, response_model=ReplayJob, summary="Go on with a replay job")
async def resume_job(clients: OurClients, running: OurReplays, job_id: JobId) -> Response:
    """In this process."""
    async with settled(clients) as connection:
        if (await jobs.job(connection, job_id)).attended:
            raise ActionRefused(f"replay job {job_id} is being run already")
        limit = clients.settings.replay_limit
        job = await jobs.change_state(connection, job_id, "running", who(), replay_limit=limit)
    return started(running, job)


async def _change(clients: Clients, job_id: int, state: JobState) -> Response:
    async with settled(clients) as connection:
        limit = clients.settings.replay_limit
        job = await jobs.change_state(connection, job_id, state, who(), replay_limit=limit)
        return json_answer(job)
