"""`/failures`: rejected records, by reason and one by one, and what can be done about them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clients import Clients
from api.database import writing
from api.endpoints.services import OurClients, OurReplays
from api.parameters import Limit, OptionalText, WholeNumber
from api.problems import ProblemAnswer, bad_parameter
from api.request_id import current_request_id
from api.served_json import encode
from api.unavailable import Unavailable, postgres_trouble
from runtime.errors import DeliveryFailed
from runtime.failures import actions, queries, replays
from runtime.failures.outcomes import settle
from runtime.failures.presented import payload_text, presented
from runtime.failures.replays import Job
from runtime.failures.selection import InvalidSelection, Selection
from runtime.failures.states import UNSETTLED, ActionRefused, CannotEdit, JobState, StillInvalid, UnknownFailure

router = APIRouter(prefix="/failures", tags=["failures"])

LARGEST_ID = 2**63 - 1
FailureId = Annotated[int, Field(ge=1, le=LARGEST_ID)]
JobId = Annotated[int, Field(ge=1, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


class Edit(BaseModel):
    """Either values to set, or the whole payload: text, or a JSON value. `force`: keep it although it is not valid."""

    set: dict[Text, Any] | None = None
    payload: Any = None
    force: bool = False


class Retry(BaseModel):
    """`rate` in records/s. `force`: send parked ones, and those of which a newer record is stored."""

    rate: Annotated[float, Field(gt=0)] | None = None
    force: bool = False


class RetryMany(Retry):
    """A filter: conditions hold together, and at least one is needed. `dry_run`: only say what would come of it."""

    ids: Annotated[list[FailureId], Field(max_length=actions.MOST_IDS)] = []
    datasets: list[Text] = []
    sources: list[Text] = []
    reasons: list[Text] = []
    keys: list[Text] = []
    since: datetime | None = None
    until: datetime | None = None
    dry_run: bool = False


class Discard(BaseModel):
    """Why; it is kept."""

    reason_text: Text


def _selection(
    dataset: OptionalText = None,
    source: OptionalText = None,
    reason: OptionalText = None,
    key: OptionalText = None,
    state: Annotated[OptionalText, Query(description="`all` for every state; by default those not settled.")] = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Selection:
    states = UNSETTLED if state is None else () if state == "all" else (state,)
    try:
        return Selection(
            datasets=(dataset,) if dataset else (),
            sources=(source,) if source else (),
            reasons=(reason,) if reason else (),
            keys=(key,) if key else (),
            states=states,
            since=since,
            until=until,
        )
    except InvalidSelection as error:
        raise bad_parameter("state", state, str(error)) from None


OurSelection = Annotated[Selection, Depends(_selection)]


@router.get("", summary="Failures by dataset, stage and reason")
async def failure_groups(clients: OurClients, selection: OurSelection) -> Response:
    """Counts, first and last seen, and the latest as an example."""
    async with _settled(clients) as connection:
        return _json({"data": await queries.groups(connection, selection)})


@router.get("/items", summary="Single failures, newest first")
async def failure_items(
    clients: OurClients, selection: OurSelection, limit: Limit = 50, before: WholeNumber | None = None
) -> Response:
    """`next_before` leads to the older ones, null at the end."""
    async with _settled(clients) as connection:
        total = await queries.count(connection, selection)
        rows = await queries.page(connection, selection, limit, before)
    return _json({"data": rows, "total": total, "next_before": rows[-1]["id"] if len(rows) == limit else None})


@router.get("/jobs", summary="The latest replay jobs")
async def replay_jobs(clients: OurClients) -> Response:
    """Newest first."""
    async with _settled(clients) as connection:
        return _json({"data": [job._asdict() for job in await replays.jobs(connection)]})


@router.get("/jobs/{job_id}", summary="How a replay job stands")
async def replay_job(clients: OurClients, job_id: JobId) -> Response:
    """With the states of its failures now."""
    async with _settled(clients) as connection:
        job = await replays.job(connection, job_id)
        return _json({**job._asdict(), "outcomes": await replays.outcomes(connection, job_id)})


@router.post("/jobs/{job_id}/pause", summary="Pause a replay job")
async def pause_job(clients: OurClients, job_id: JobId) -> Response:
    """Whichever process runs it."""
    return await _change(clients, job_id, "paused")


@router.post("/jobs/{job_id}/cancel", summary="Cancel a replay job")
async def cancel_job(clients: OurClients, job_id: JobId) -> Response:
    """What it has not sent is open again."""
    return await _change(clients, job_id, "cancelled")


@router.post("/jobs/{job_id}/resume", status_code=202, summary="Go on with a replay job")
async def resume_job(clients: OurClients, running: OurReplays, job_id: JobId) -> Response:
    """In this process."""
    async with _settled(clients) as connection:
        job = await replays.job(connection, job_id)
    if job.attended or job.state in ("done", "cancelled"):
        detail = f"Replay job {job_id} is being run already" if job.attended else f"Replay job {job_id} is {job.state}"
        raise ProblemAnswer(HTTPStatus.CONFLICT, "action-refused", detail)
    return _started(running, job)


@router.post("/retry", status_code=202, summary="Send the selected failures again")
async def retry_many(running: OurReplays, wanted: RetryMany) -> Response:
    """A job does it, in the background; see its Location."""
    names = ("ids", "datasets", "sources", "reasons", "keys")
    lists = {name: tuple(getattr(wanted, name)) for name in names}
    selection = Selection(**lists, since=wanted.since, until=wanted.until)
    if selection.is_empty:
        raise ProblemAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", "Name failures by ids, or give a filter")
    async with _answering():
        if wanted.dry_run:
            plan = await running.desk.plan(selection, force=wanted.force)
            return _json({"total": plan.total, "ready": plan.ready, "lines": plan.lines})
        return _started(running, await running.desk.start(selection, _who(), rate=wanted.rate, force=wanted.force))


@router.get("/{failure_id}", summary="Everything about a failure")
async def failure(clients: OurClients, failure_id: FailureId) -> Response:
    """Its bytes, each field's problem, its coordinates, and what was done about it."""
    async with _settled(clients) as connection:
        found = await queries.one(connection, failure_id)
        return _json(presented(found, await queries.history(connection, failure_id)))


@router.post("/{failure_id}/edit", summary="Correct the payload that a retry sends")
async def edit(running: OurReplays, failure_id: FailureId, wanted: Edit) -> Response:
    """It must be valid now. The payload before and after are kept."""
    given = "payload" in wanted.model_fields_set
    if given == bool(wanted.set):
        raise ProblemAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", "Give either `set` or `payload`")
    text = wanted.payload.encode() if isinstance(wanted.payload, str) else msgspec.json.encode(wanted.payload)
    async with _answering():
        edited = await running.desk.edit(
            failure_id, _who(), values=wanted.set, payload=text if given else None, force=wanted.force
        )
    return _json({"before": payload_text(edited.before), "after": payload_text(edited.after), "valid": edited.valid})


@router.post("/{failure_id}/retry", status_code=202, summary="Send a failure again")
async def retry(running: OurReplays, failure_id: FailureId, wanted: Retry | None = None) -> Response:
    """A job does it, in the background; see its Location."""
    force = wanted is not None and wanted.force
    async with _answering():
        return _started(running, await running.desk.start(Selection(ids=(failure_id,)), _who(), force=force))


@router.post("/{failure_id}/discard", summary="Decide against a failure")
async def discard(clients: OurClients, failure_id: FailureId, wanted: Discard) -> Response:
    """It is no longer listed, and stays in Postgres with the reason."""
    async with _settled(clients) as connection:
        await actions.discard(connection, [failure_id], _who(), wanted.reason_text)
        found = await queries.one(connection, failure_id)
        return _json(presented(found, await queries.history(connection, failure_id)))


async def _change(clients: Clients, job_id: int, state: JobState) -> Response:
    async with _settled(clients) as connection:
        limit = clients.settings.replay_limit
        return _json((await replays.change_state(connection, job_id, state, _who(), replay_limit=limit))._asdict())


def _started(running: OurReplays, job: Job) -> Response:
    running.run(job.id, _who())
    headers = {"Location": f"/failures/jobs/{job.id}"}
    return Response(encode(job._asdict()), HTTPStatus.ACCEPTED, headers, "application/json")


@asynccontextmanager
async def _settled(clients: Clients) -> AsyncIterator[AsyncConnection]:
    async with _answering(), writing(clients.engine) as connection:
        await settle(connection, clients.settings.replay_limit)
        yield connection


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """What is refused, unknown or out of reach, as its problem document."""
    try:
        yield
    except UnknownFailure as error:
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", str(error)) from None
    except StillInvalid as error:
        problems = [msgspec.to_builtins(problem) for problem in error.problems]
        raise ProblemAnswer(HTTPStatus.CONFLICT, "still-invalid", str(error), problems=problems) from None
    except ActionRefused as error:
        refusals = {str(number): reason for number, reason in error.refusals.items()}
        raise ProblemAnswer(HTTPStatus.CONFLICT, "action-refused", str(error), refusals=refusals) from None
    except CannotEdit as error:
        raise ProblemAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", str(error)) from None
    except DeliveryFailed as error:
        raise Unavailable("kafka", str(error)) from error
    except (ProblemAnswer, Unavailable):
        raise
    except Exception as error:
        if reason := postgres_trouble(error):
            raise Unavailable("postgres", reason) from error
        raise


def _who() -> str:
    return f"api:{current_request_id()}"


def _json(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")
