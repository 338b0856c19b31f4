"""Every error as a problem document (RFC 9457), with the id of its request."""

import reprlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from confluent_kafka import KafkaException
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.answers import encode
from api.current_request import current_request_id
from runtime.errors import DeliveryFailed
from runtime.kafka.clients import reason
from stores.failure_states import ActionRefused, CannotEdit, StillInvalid, UnknownFailure
from stores.outages import TableMisfit, Unavailable

MEDIA_TYPE = "application/problem+json"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

RETRY_AFTER_SECONDS = 2

MISFIT_RETRY_SECONDS = 60
"""Somebody has to run a command first."""

MOST_PROBLEMS = 10
"""Wrong parameters or members that an answer names; of the others it says how many."""

MOST_SHOWN = 300
"""Characters of a path, a name or a message that an answer repeats."""


class Problem(BaseModel):
    """A problem document. `code` is the last part of `type`; `errors` has an entry per wrong parameter."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


class ProblemAnswer(Exception):
    """Raised by an endpoint to answer with a problem. `code` is stable; `detail` says what to change."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = extensions


def problem_body(status: int, code: str, detail: str, path: str, **extensions: Any) -> bytes:
    """The document itself."""
    return encode(
        {
            "type": f"urn:headrace:problem:{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "instance": path[:MOST_SHOWN],
            "request_id": current_request_id(),
            **extensions,
        }
    )


def bad_parameter(name: str, value: object, message: str) -> ProblemAnswer:
    """A 400 that names the parameter, for what only the endpoint can judge."""
    detail = f"{name}={_shortened(value)}: {message}"
    return ProblemAnswer(
        HTTPStatus.BAD_REQUEST, "invalid-parameter", detail, errors=[{"parameter": name, "message": message}]
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every exception that this module knows with its problem document."""
    for kind in (
        *(ProblemAnswer, Unavailable, TableMisfit, RequestValidationError, HTTPException, KafkaException),
        *(DeliveryFailed, UnknownFailure, ActionRefused, CannotEdit),
    ):
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    problem = _problem_of(request, error)
    body = problem_body(problem.status, problem.code, problem.detail, request.url.path, **problem.extensions)
    return Response(body, problem.status, problem.headers, MEDIA_TYPE)


def _problem_of(request: Request, error: Exception) -> ProblemAnswer:
    match error:
        case ProblemAnswer():
            return error
        case Unavailable():
            return _unavailable(error.store, error.reason)
        case DeliveryFailed():
            return _unavailable("kafka", str(error))
        case KafkaException():
            return _unavailable("kafka", reason(error))
        case TableMisfit():
            return _misfit(error)
        case RequestValidationError():
            return _invalid_request(error)
        case HTTPException():
            return _refused_by_router(request, error)
        case UnknownFailure():
            return ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", str(error))
        case StillInvalid():
            problems = [msgspec.to_builtins(problem) for problem in error.problems]
            return ProblemAnswer(HTTPStatus.CONFLICT, "still-invalid", str(error), problems=problems)
        case ActionRefused():
            refusals = {str(number): refusal for number, refusal in error.refusals.items()}
            return ProblemAnswer(HTTPStatus.CONFLICT, "action-refused", str(error), refusals=refusals)
        case CannotEdit():
            return ProblemAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", str(error))
    raise error


def _unavailable(store: str, why: str) -> ProblemAnswer:
    """A 503 that names the store and says when to try again."""
    return ProblemAnswer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "store-unavailable",
        f"{store} does not answer: {why}. Try again in {RETRY_AFTER_SECONDS} s",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
        store=store,
    )


def _misfit(error: TableMisfit) -> ProblemAnswer:
    """A 503 that says who can mend it: a dataset's declaration has changed, and its table has not."""
    return ProblemAnswer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "table-misfit",
        f"The table of this dataset is not as the dataset is declared: {error}. `headrace setup` adds what is safe, "
        "and says what to do about the rest; other datasets are not concerned",
        {"Retry-After": str(MISFIT_RETRY_SECONDS)},
    )


def _refused_by_router(request: Request, error: HTTPException) -> ProblemAnswer:
    """An unknown path, a method that a path does not take, a body that is too large."""
    status = HTTPStatus(error.status_code)
    too_large = status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "body-too-large" if too_large else status.phrase.lower().replace(" ", "-")
    detail = f"{request.method} {request.url.path[:MOST_SHOWN]}: {error.detail}"
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods_taken(request))  # the router names those of one route only
    return ProblemAnswer(status, code, detail, headers)


def _methods_taken(request: Request) -> list[str]:
    """Every method that some route takes for the path."""
    asked = [(method, {**request.scope, "method": method}) for method in sorted(METHODS)]
    routes = request.app.router.routes
    return [method for method, scope in asked if any(route.matches(scope)[0] == Match.FULL for route in routes)]


def _invalid_request(error: RequestValidationError) -> ProblemAnswer:
    """A 422 for a body, a 400 for parameters; names the first MOST_PROBLEMS of what is wrong."""
    wrong = error.errors()
    shown, more = wrong[:MOST_PROBLEMS], len(wrong) - MOST_PROBLEMS
    errors = [{"parameter": _parameter(problem), "message": problem["msg"][:MOST_SHOWN]} for problem in shown]
    detail = "; ".join([_sentence(problem) for problem in shown] + ([f"and {more:,} more"] if more > 0 else []))
    if any(problem["loc"][0] == "body" for problem in wrong):
        return ProblemAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", detail, errors=errors)
    return ProblemAnswer(HTTPStatus.BAD_REQUEST, "invalid-parameter", detail, errors=errors)


def _parameter(problem: Mapping[str, Any]) -> str:
    location: Sequence[str | int] = problem["loc"]
    name = ".".join(str(part)[:MOST_SHOWN] for part in location[1:]) or str(location[0])
    # Halves of surrogate pairs, which JSON can hold and no answer.
    return name[:MOST_SHOWN].encode("utf-8", "replace").decode()


def _sentence(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "missing":
        return f"{_parameter(problem)}: {problem['msg']}"
    return f"{_parameter(problem)}={_shortened(problem['input'])}: {problem['msg'][:MOST_SHOWN]}"


def _shortened(value: object, longest: int = 80) -> str:
    # A text only from its beginning, and of lists and objects the first levels and members: they may be deep and large.
    shown = repr(value[:longest]) if isinstance(value, str) else _SHOWN.repr(value)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxlong, _SHOWN.maxother = 2, 80, 80, 80
