"""Lag and verdict of every consumer group (`GET /lag`), of one, over the last hours, and live as a stream of events."""

import asyncio
import dataclasses
import datetime
import time
from collections import Counter
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

import starlette.types
import structlog
from confluent_kafka import KafkaException
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import AfterValidator, BaseModel
from starlette.types import Receive, Send

from api.access import Scope, needs, still_may
from api.answers import encode, json_answer
from api.clients import OurClients, from_state
from api.health import require
from api.parameters import MAX_TEXT, StrictRoute, without_nul
from api.problems import ProblemAnswer
from api.request_limits import who_asks
from monitoring.history import MinuteFigures, read_figures
from monitoring.lag import PartitionLag
from monitoring.verdicts import Verdict
from monitoring.view import Figures, GroupView, SystemLag, TopicView, row_of
from monitoring.watching import LagWatch
from runtime.http_server import stopping
from runtime.kafka.clients import reason
from stores.lag_samples import LagSamples
from stores.outages import STORE, Unavailable

router = APIRouter(route_class=StrictRoute, tags=["lag"])

MOST_STREAMS = 50
"""Of one process. Each is a connection that stays; all share one reading a second."""

MOST_STREAMS_A_CALLER = 25

EVENT_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
"""A comment at least so often, so that no proxy takes a quiet stream for a dead one."""

MOST_HOURS = 24 * 31
HISTORY_SECONDS = 10.0
"""Until a history is there: all that are asked for share one connection."""

EVENTS: dict[str, Any] = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


class CountedStream(EventStream):
    """The events of a watch. It counts as one of its streams from the moment that it is made until it has been sent."""

    def __init__(self, watch: LagWatch, asked: starlette.types.Scope) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_events(watch, asked), headers=headers)
        self._watch = watch
        self._caller = who_asks(asked)
        watch.streams[self._caller] += 1

    async def __call__(self, scope: starlette.types.Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watch.streams -= Counter([self._caller])


GroupName = Annotated[
    str, AfterValidator(without_nul), Path(max_length=MAX_TEXT, description="A group, as `GET /lag` names it.")
]

Watch = Annotated[LagWatch, from_state("lag")]

Kept = Annotated[LagSamples, from_state("lag_history")]

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopicSummary(Figures):
    """A group's topic, without its partitions."""

    topic: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupSummary(Figures):
    """A group with its topics, without their partitions."""

    group: str
    ours: bool
    state: str
    gone: tuple[str, ...]
    topics: list[TopicSummary]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LagAnswer(Figures):
    """The system is made of our groups. `groups` sums the lag of each of them, `total` all of it, and `data` has their
    partitions. `overview` has every group of the broker, worst first.
    """

    total: int
    groups: dict[str, int]
    data: list[PartitionLag]
    overview: list[GroupSummary]
    at: float
    window_seconds: float
    monitored: bool
    others_verdict: Verdict


class LagHistory(BaseModel):
    """A group by the minute, oldest first; per topic: records that wait in all and per partition, age, rates, and the
    worst verdict within the minute.
    """

    group: str
    hours: float
    minutes: list[dict[str, Any]]


@router.get("/lag", response_model=LagAnswer)
@needs(Scope.READ)
async def lag(clients: OurClients, watch: Watch) -> Response:
    """Lag, age, rates, time to drain and verdict of each consumer group and topic; the answer is at most a second old.

    The verdict is OK, WARN (falls behind), REWIND (was put back), STALL (stands while it commits elsewhere), STOP
    (commits nothing) or NO CONSUMER.
    """
    # The reader waits longer for a broker than a caller of this endpoint should.
    await require(clients, "kafka")
    return json_answer(summary_of(await watch.view()))


@router.get("/lag/stream", response_class=EventStream, responses={200: EVENTS})
@needs(Scope.READ)
async def stream(watch: Watch, request: Request) -> Response:
    """The answer of GET /lag as server-sent events: at once, and within two seconds of each change.

    Events are `lag`, and `problem` while the broker does not answer. The stream ends when its key does; so many at most
    are served at a time: 50, and half of them to one caller.
    """
    caller = who_asks(request.scope)
    if watch.streams.total() >= MOST_STREAMS:
        raise _too_many(f"{MOST_STREAMS} streams are open, which is as many as one process serves")
    if watch.streams[caller] >= MOST_STREAMS_A_CALLER:
        raise _too_many(f"{MOST_STREAMS_A_CALLER} streams of yours are open, which is as many as one caller may have")
    return CountedStream(watch, request.scope)


def _too_many(why: str) -> ProblemAnswer:
    detail = f"{why}; GET /lag answers as well"
    return ProblemAnswer(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-streams", detail, {"Retry-After": "10"})


@router.get("/lag/{group}", response_model=GroupView)
@needs(Scope.READ)
async def lag_of_group(group: GroupName, clients: OurClients, watch: Watch) -> Response:
    """One group, ours or anybody's, with its topics and partitions. The prefix of our namespace may be left out."""
    await require(clients, "kafka")
    view = await watch.view()
    found = view.group(clients.settings.named(group)) or view.group(group)
    if found is None:
        raise _unknown(group)
    return json_answer(found)


@router.get("/lag/{group}/history", response_model=LagHistory)
@needs(Scope.READ)
async def history(
    group: GroupName,
    clients: OurClients,
    watch: Watch,
    kept: Kept,
    hours: Annotated[
        float, Query(gt=0, le=MOST_HOURS, description="How far back, as far as the monitor kept it.")
    ] = 1.0,
) -> Response:
    """Figures that the monitor has kept of a group, by the minute (LAG_HISTORY_HOURS says for how long)."""
    try:
        async with asyncio.timeout(HISTORY_SECONDS):
            for name in dict.fromkeys([clients.settings.named(group), group]):
                rows = await kept.history(name, hours)
                if rows is None:
                    raise Unavailable(STORE, kept.problem or "no answer")
                if rows:
                    return await asyncio.to_thread(_history_answer, name, hours, rows)
    except TimeoutError:
        raise Unavailable(STORE, f"no history within {HISTORY_SECONDS:g} s") from None
    await require(clients, "kafka")
    view = await watch.view()
    known = view.group(clients.settings.named(group)) or view.group(group)
    if known is None:
        raise _unknown(group)
    return json_answer({"group": known.group, "hours": hours, "minutes": []})


def summary_of(view: SystemLag) -> LagAnswer:
    """The body of GET /lag. Pure."""
    ours = [group for group in view.groups if group.ours]
    return LagAnswer(
        **_figures(view),
        total=view.lag,
        groups={group.group: group.lag for group in sorted(ours, key=lambda group: group.group)},
        data=sorted(
            (row_of(group, topic, row) for group in ours for topic in group.topics for row in topic.partitions),
            key=lambda row: (row.group, row.topic, row.partition),
        ),
        overview=[_group_summary(group) for group in view.groups],
        at=view.at,
        window_seconds=view.window_seconds,
        monitored=view.monitored,
        others_verdict=view.others_verdict,
    )


def _group_summary(group: GroupView) -> GroupSummary:
    return GroupSummary(
        **_figures(group),
        group=group.group,
        ours=group.ours,
        state=group.state,
        gone=group.gone,
        topics=[_topic_summary(topic) for topic in group.topics],
    )


def _topic_summary(topic: TopicView) -> TopicSummary:
    return TopicSummary(**_figures(topic), topic=topic.topic)


def _figures(figures: Figures) -> dict[str, Any]:
    return {field.name: getattr(figures, field.name) for field in dataclasses.fields(Figures)}


def _history_answer(group: str, hours: float, rows: list[tuple[datetime.datetime, Any]]) -> Response:
    minutes = [{"at": at, "topics": _named(read_figures(figures))} for at, figures in rows]
    return json_answer({"group": group, "hours": hours, "minutes": minutes})


def _named(topics: dict[str, MinuteFigures]) -> dict[str, dict[str, Any]]:
    return {
        topic: {name: getattr(figures, name) for name in MinuteFigures.__struct_fields__}
        for topic, figures in topics.items()
    }


def _unknown(group: str) -> ProblemAnswer:
    return ProblemAnswer(
        HTTPStatus.NOT_FOUND,
        "not-found",
        f"the broker knows no consumer group {group!r} that has committed anything; GET /lag lists those that it knows",
    )


async def _events(watch: LagWatch, asked: starlette.types.Scope) -> AsyncIterator[bytes]:
    """An event per change of the view. Ends when the process is asked to stop, or the caller's key has ended."""
    shown: object = None
    sent_at = 0.0
    while not stopping.is_set() and await still_may(asked, Scope.READ):
        event, content, body = await _event(watch)
        if content != shown:
            shown, sent_at = content, time.monotonic()
            yield format_sse_event(event=event, data_str=body)
        elif time.monotonic() - sent_at >= HEARTBEAT_SECONDS:
            sent_at = time.monotonic()
            yield format_sse_event(comment="still there")
        await asyncio.sleep(EVENT_SECONDS)


async def _event(watch: LagWatch) -> tuple[str, object, str]:
    """The name of the event, what makes it another one than the last, and its data."""
    try:
        view = await watch.view()
    except KafkaException as error:
        body = encode({"store": "kafka", "reason": reason(error)}).decode()
        return "problem", body, body
    same = dataclasses.replace(view, at=0.0, window_seconds=0.0)
    return "lag", same, encode(summary_of(view)).decode()
