"""Common to all answers of `/failures`: outcomes are settled first, refusals become problem documents."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clients import Clients
from api.current_request import current_request_id
from api.database import writing
from api.failure_replays import FailureReplays
from api.problems import ProblemAnswer
from api.served_json import encode
from runtime.errors import DeliveryFailed
from services.failures.replay_jobs import ReplayJob
from services.failures.settling import settle
from stores.failure_states import ActionRefused, CannotEdit, StillInvalid, UnknownFailure
from stores.outages import Unavailable, postgres_trouble


@asynccontextmanager
async def settled(clients: Clients) -> AsyncIterator[AsyncConnection]:
    """A transaction in which replayed failures have their outcomes. Errors become problem documents."""
    async with answering(), writing(clients.engine) as connection:
        await settle(connection, clients.settings.replay_limit)
        yield connection


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Turn what is refused, unknown or out of reach into its problem document."""
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


def who() -> str:
    """The author of an action: the request, by its id."""
    return f"api:{current_request_id()}"


def json_answer(value: Any) -> Response:
    """An answer 200 with this value as JSON."""
    return Response(encode(value), media_type="application/json")


def started(running: FailureReplays, job: ReplayJob) -> Response:
    """Let the job run in the background; the answer's Location shows its progress."""
    running.run(job.id, who())
    headers = {"Location": f"/failures/jobs/{job.id}"}
    return Response(encode(job), HTTPStatus.ACCEPTED, headers, "application/json")
