"""`/failures`: rejected records (dead letters), by reason and one by one, and the ways to deal with them."""

from dataclasses import fields, replace
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from starlette.convertors import StringConvertor, register_url_convertor

from api.access import Scope, needs
from api.answers import json_answer
from api.clients import OurClients
from api.database import explained
from api.endpoints.failure_jobs import OurReplays, settled, started, who
from api.endpoints.failure_models import (
    Discard,
    DiscardedHeld,
    DiscardHeld,
    Edit,
    EditAnswer,
    Failure,
    FailureGroups,
    FailureId,
    FailureItems,
    Held,
    HeldAnswer,
    Release,
    Retry,
    RetryMany,
)
from api.parameters import AsSent, Id, Limit, OptionalText, OptionalTime, StrictRoute
from api.personal import Masked
from api.problems import ProblemAnswer, bad_parameter
from services.failures import actions, editing, listing, replay
from services.failures.candidates import Plan, plan
from services.failures.listing import payload_text
from services.failures.release import release as release_records
from services.failures.replay_jobs import ReplayJob
from services.failures.selection import InvalidSelection, Selection
from stores.failure_states import STATES, UNSETTLED


class Digits(StringConvertor):
    """Digits, however many: whether they are an id is for the endpoint to say."""

    regex = "[0-9]+"


register_url_convertor("digits", Digits())

router = APIRouter(prefix="/failures", tags=["failures"], route_class=StrictRoute)


def _selection(
    dataset: OptionalText = None,
    source: OptionalText = None,
    reason: OptionalText = None,
    key: AsSent = None,
    state: Annotated[
        OptionalText,
        Query(
            description="`all` for every state; by default those not settled.",
            json_schema_extra={"enum": [*STATES, "all"]},
        ),
    ] = None,
    since: OptionalTime = None,
    until: OptionalTime = None,
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


@router.get("", response_model=FailureGroups, summary="Failures by dataset, stage and reason")
@needs(Scope.READ)
async def failure_groups(clients: OurClients, selection: OurSelection) -> Response:
    """Counts, first and last seen, and the latest as an example."""
    async with settled(clients) as connection:
        return json_answer({"data": await listing.groups(connection, selection)})


@router.get("/items", response_model=FailureItems, summary="Single failures, newest first")
@needs(Scope.READ)
async def failure_items(
    clients: OurClients, masked: Masked, selection: OurSelection, limit: Limit = 50, before: Id | None = None
) -> Response:
    """`next_before` leads to the older ones, null at the end."""
    async with settled(clients) as connection:
        total = await listing.count(connection, selection)
        rows = await listing.page(connection, selection, limit, before, masked=masked)
    return json_answer({"data": rows, "total": total, "next_before": rows[-1]["id"] if len(rows) == limit else None})


@router.post(
    "/retry",
    status_code=202,
    response_model=ReplayJob,
    summary="Send the selected failures again",
    responses={200: {"model": Plan, "description": "What `dry_run` says would come of it"}},
)
@needs(Scope.OPERATE)
async def retry_many(clients: OurClients, running: OurReplays, wanted: RetryMany) -> Response:
    """A job does it, in the background; see its Location."""
    selection = _chosen(wanted, "failures")
    with explained():
        if wanted.dry_run:
            return json_answer(await plan(clients.settings, selection, force=wanted.force))
        job = await replay.start(clients.settings, selection, who(), rate=wanted.rate, force=wanted.force)
    return started(clients, running, job)


@router.post("/release", status_code=202, response_model=HeldAnswer, summary="Let the selected held records go on")
@needs(Scope.OPERATE)
async def release(clients: OurClients, running: OurReplays, wanted: Release) -> Response:
    """They are normalized again under their own coordinates, in the background; `/failures?state=held` tells the rest.

    Idempotent: what is still held is released when it is asked for again.
    """
    selection = replace(_chosen(wanted, "held records"), states=("held",))
    async with settled(clients) as connection:
        held = await listing.count(connection, selection)
    running.begin("release", release_records(clients.settings, selection, who(), remap=wanted.remap))
    return json_answer({"held": held}, HTTPStatus.ACCEPTED)


@router.post("/discard", response_model=DiscardedHeld, summary="Decide against the selected held records")
@needs(Scope.OPERATE)
async def discard_held(clients: OurClients, wanted: DiscardHeld) -> Response:
    """They are no longer listed, and stay in Postgres with the reason."""
    selection = _chosen(wanted, "held records")
    async with settled(clients) as connection:
        discarded = await actions.discard_held(connection, selection, who(), wanted.reason_text)
    return json_answer({"discarded": discarded})


def _chosen(wanted: RetryMany | Held, what: str) -> Selection:
    names = {one.name for one in fields(Selection)}
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in wanted if name in names}
    selection = Selection(**given)
    if selection.is_empty:
        raise ProblemAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", f"Name {what} by ids, or give a filter")
    return selection


@router.get("/{failure_id:digits}", response_model=Failure, summary="Everything about a failure")
@needs(Scope.READ)
async def failure(clients: OurClients, masked: Masked, failure_id: FailureId) -> Response:
    """Its bytes, each field's problem, its coordinates, and what was done about it."""
    async with settled(clients) as connection:
        return json_answer(await listing.shown(connection, failure_id, masked=masked))


@router.post("/{failure_id:digits}/edit", response_model=EditAnswer, summary="Correct the payload that a retry sends")
@needs(Scope.OPERATE)
async def edit(clients: OurClients, masked: Masked, failure_id: FailureId, wanted: Edit) -> Response:
    """It must be valid now. The payload before and after are kept."""
    given = "payload" in wanted.model_fields_set
    if given == bool(wanted.set):
        raise ProblemAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", "Give either `set` or `payload`")
    text = wanted.payload.encode() if isinstance(wanted.payload, str) else msgspec.json.encode(wanted.payload)
    with explained():
        payload = text if given else None
        edited = await editing.edit(
            clients.settings, failure_id, who(), values=wanted.set, payload=payload, force=wanted.force
        )
    if masked:
        edited = edited.masked()
    return json_answer(
        {"before": payload_text(edited.before), "after": payload_text(edited.after), "valid": edited.valid}
    )


@router.post("/{failure_id:digits}/retry", status_code=202, response_model=ReplayJob, summary="Send a failure again")
@needs(Scope.OPERATE)
async def retry(
    clients: OurClients, running: OurReplays, failure_id: FailureId, wanted: Retry | None = None
) -> Response:
    """A job does it, in the background; see its Location."""
    force = wanted is not None and wanted.force
    with explained():
        job = await replay.start(clients.settings, Selection(ids=(failure_id,)), who(), force=force)
    return started(clients, running, job)


@router.post("/{failure_id:digits}/discard", response_model=Failure, summary="Decide against a failure")
@needs(Scope.OPERATE)
async def discard(clients: OurClients, masked: Masked, failure_id: FailureId, wanted: Discard) -> Response:
    """It is no longer listed, and stays in Postgres with the reason."""
    async with settled(clients) as connection:
        await actions.discard(connection, [failure_id], who(), wanted.reason_text)
        return json_answer(await listing.shown(connection, failure_id, masked=masked))
