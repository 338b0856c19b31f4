"""Request ids, entity tags, problem documents and the handling of errors that nobody expected."""

import json
from typing import Any

import asyncpg
import pytest
from pydantic import TypeAdapter
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.types import Message, Receive, Scope, Send

from api.answers import etag_of, names
from api.clients import PAUSE_SECONDS, Breaker
from api.current_request import bind_request_id, request_id_from
from api.middleware import RequestContext
from api.parameters import AsSent, OptionalText, SearchText
from api.problems import problem_body
from stores.outages import postgres_trouble


@pytest.mark.parametrize(
    "given", ["a", "trace-42", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "A" * 128]
)
def test_a_sane_request_id_is_kept(given: str) -> None:
    assert request_id_from(given) == given


@pytest.mark.parametrize("given", [None, "", " a", "a b", "a\nb", "a\tb", "<x>", "é", "-a", "A" * 129])
def test_any_other_request_id_is_replaced(given: str | None) -> None:
    made = request_id_from(given)
    assert made != given
    assert request_id_from(made) == made
    assert made != request_id_from(given)


def test_an_entity_tag_is_recognised_in_a_list_and_without_its_weakness_mark() -> None:
    tag = etag_of(b"x")
    strong = tag.removeprefix("W/")
    for header in (tag, strong, f'"other", {tag}', f'W/"o",{strong}', "*"):
        assert names(header, tag)
    for other in (None, "", '"other"', strong.strip('"')):
        assert not names(other, tag)
    assert etag_of(b"y") != tag


def test_a_problem_document_has_every_member() -> None:
    bind_request_id("r-1")
    assert json.loads(problem_body(404, "not-found", "no such thing", "/x", store="redis")) == {
        "type": "urn:headrace:problem:not-found",
        "title": "Not Found",
        "status": 404,
        "detail": "no such thing",
        "instance": "/x",
        "request_id": "r-1",
        "store": "redis",
    }


async def call(app: Any) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope: Scope = {"type": "http", "method": "GET", "path": "/x", "headers": [(b"x-request-id", b"r-7")]}
    await RequestContext(app)(scope, receive, send)
    return sent


async def test_an_unexpected_error_is_a_500_that_tells_nothing_of_the_inside() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("password=hunter2")

    start, body = await call(broken)
    headers = dict(start["headers"])
    assert start["status"] == 500
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"x-request-id"] == b"r-7"
    assert b"server-timing" in headers
    assert b"hunter2" not in body["body"]
    assert json.loads(body["body"])["request_id"] == "r-7"


async def test_an_error_after_half_an_answer_breaks_the_connection() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await call(half)


def wrapped(original: BaseException, *, invalidated: bool = False) -> DBAPIError:
    return DBAPIError("SELECT 1", None, original, connection_invalidated=invalidated)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
        PoolTimeout(),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.InvalidPasswordError("password authentication failed"),
        wrapped(asyncpg.TooManyConnectionsError("too many clients")),
        wrapped(asyncpg.AdminShutdownError("terminating connection")),
        wrapped(asyncpg.QueryCanceledError("canceling statement due to statement timeout")),
        wrapped(asyncpg.UndefinedTableError('relation "customers" does not exist')),
        wrapped(asyncpg.InterfaceError("connection is closed")),
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        wrapped(RuntimeError("gone"), invalidated=True),
    ],
)
def test_a_postgres_that_cannot_answer_is_recognised(error: BaseException) -> None:
    assert postgres_trouble(error)


@pytest.mark.parametrize(
    "error", [wrapped(asyncpg.UndefinedColumnError("no column x")), wrapped(asyncpg.DataError("x")), ValueError("x")]
)
def test_a_wrong_statement_is_not_taken_for_an_outage(error: BaseException) -> None:
    assert postgres_trouble(error) is None


def test_a_store_that_failed_is_left_alone_for_a_moment() -> None:
    now = 100.0
    breaker = Breaker("redis", clock=lambda: now)
    states = [breaker.closed]
    breaker.failed(OSError("gone"))
    states.append(breaker.closed)
    now += PAUSE_SECONDS
    states.append(breaker.closed)
    breaker.succeeded()
    states.append(breaker.closed)
    assert states == [True, False, True, True]


def test_a_filter_is_brought_into_the_form_in_which_text_is_stored() -> None:
    sent = "  Jose\u0301  1"
    assert TypeAdapter(OptionalText).validate_python(sent) == "Jos\u00e9 1"
    assert TypeAdapter(SearchText).validate_python(sent) == "Jos\u00e9 1"
    assert TypeAdapter(AsSent).validate_python(sent) == sent
    assert TypeAdapter(OptionalText).validate_python("  ") is None
    for wrong in ("  ", "a\x00b"):
        with pytest.raises(ValueError, match="must not"):
            TypeAdapter(SearchText).validate_python(wrong)
