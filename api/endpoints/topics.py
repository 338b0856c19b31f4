"""Topics: a list of them, the messages in them, and one record to try the pipeline with."""

import asyncio
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from api.access import Scope, needs
from api.answers import json_answer
from api.clients import OurClients, from_state
from api.health import require
from api.parameters import DIGITS, MAX_TEXT, AsSent, StrictRoute, without_nul
from api.personal import Masked
from api.problems import ProblemAnswer, bad_parameter
from producers.source import SOURCE_NAME, check_source_name
from runtime.settings import Settings
from services.topics.listing import ListedTopic, UnknownTopic, declared_topic, list_topics
from services.topics.peek import MOST_MESSAGES, USUAL_MESSAGES, Peeked, PeekQuestion, WrongPeek, peek
from services.topics.produce import NotForRecords, PublishedRecord, RecordRefused, publish_record

T = TypeVar("T")

router = APIRouter(route_class=StrictRoute, tags=["topics"])

MOST_READS = 2
"""Looks into topics that this process does at once: each holds a client, and up to 32 MB."""

WAIT_SECONDS = 2.0


class TopicReads:
    """Bounds the number of looks into topics. One that its caller has given up goes on to its own end, and counts."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MOST_READS)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, in a thread. Raises ProblemAnswer (429) if no place is free in time."""
        return await self.hold(asyncio.to_thread(work))

    async def hold(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which has a place meanwhile. Raises ProblemAnswer (429) if none is free in time."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except BaseException as error:
            work.close()
            if not isinstance(error, TimeoutError):
                raise
            detail = f"{MOST_READS} readers of topics are at work; try again in a moment"
            raise ProblemAnswer(HTTPStatus.TOO_MANY_REQUESTS, "too-many-reads", detail, {"Retry-After": "2"}) from None
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        self._free.release()
        if not task.cancelled():
            task.exception()  # its caller may have given up


OurTopicReads = Annotated[TopicReads, from_state("topic_reads")]

TopicName = Annotated[str, Path(max_length=249, description="A topic, as `GET /topics` names it.")]
_Partition = Annotated[int, Field(ge=0, le=100_000), DIGITS]
Partition = Annotated[_Partition | None, Query(description="Only this partition.")]
Start = Annotated[
    str | None,
    AfterValidator(without_nul),
    Query(
        alias="from",
        max_length=MAX_TEXT,
        description="-10: the newest ten; 1234: from that offset on; 30m, or a time in ISO 8601: from then on.",
    ),
]
SourceName = Annotated[
    str,
    Query(
        max_length=MAX_TEXT,
        description="Whom the record comes from.",
        json_schema_extra={"pattern": f"^{SOURCE_NAME.pattern}$"},
    ),
]
Number = Annotated[int, Field(ge=1, le=MOST_MESSAGES), DIGITS, Query(description="How many at most.")]


class TopicList(BaseModel):
    """Every topic of the registry."""

    data: list[ListedTopic]


@router.get("/topics", response_model=TopicList, summary="Every topic, as declared and as the broker has it")
@needs(Scope.READ)
async def topics(clients: OurClients) -> Response:
    """Partitions, the offsets that they keep, retention, who writes and reads. 0 partitions: it does not exist yet."""
    await require(clients, "kafka")
    found = await asyncio.to_thread(clients.kafka.ask, lambda admin: list_topics(clients.settings, admin))
    return json_answer({"data": found})


@router.get(
    "/topics/{topic}/messages",
    response_model=Peeked,
    summary="Messages of a topic, newest first",
    responses={404: {"description": "There is no such topic"}, 429: {"description": "Too many such reads at once"}},
)
@needs(Scope.READ)
async def messages(
    clients: OurClients,
    reads: OurTopicReads,
    masked: Masked,
    topic: TopicName,
    partition: Partition = None,
    key: AsSent = None,
    start: Start = None,
    limit: Annotated[
        int, Field(ge=1, le=MOST_MESSAGES), DIGITS, Query(description="How many at most.")
    ] = USUAL_MESSAGES,
) -> Response:
    """Only what is committed. With `key`, in any form, only the partition of that key is read.

    `looked` says which offsets were looked at, and `stopped` why it ended early: after 5 s, or 32 MB.
    """
    question = PeekQuestion(_declared(clients.settings, topic), partition, key, start, limit, masked=masked)
    await require(clients, "kafka")
    try:
        found = await reads.run(lambda: clients.kafka.ask(lambda admin: peek(clients.settings, admin, question)))
    except UnknownTopic as error:
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", str(error)) from None
    except WrongPeek as error:
        given = {"from": start, "partition": partition}[error.parameter]
        raise bad_parameter(error.parameter, given, str(error)) from None
    return json_answer(found)


@router.post(
    "/topics/{topic}/messages",
    status_code=HTTPStatus.CREATED,
    response_model=PublishedRecord,
    summary="Publish one test record to a raw topic",
    responses={
        404: {"description": "There is no such topic"},
        409: {"description": "The topic takes no records from outside; the answer says which does"},
        415: {"description": "The body is not sent as application/json"},
        422: {"description": "The body is not one JSON object"},
        503: {"description": "Kafka has not confirmed the record"},
    },
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
@needs(Scope.WRITE)
async def publish(
    clients: OurClients, reads: OurTopicReads, request: Request, topic: TopicName, source: SourceName = "test"
) -> Response:
    """The bytes of the body are the record, as with `headrace push`; the answer has its coordinates.

    A record with wrong fields is taken, and becomes a failure. The content type is asked for so that no page of
    another origin can do this without a question to this server first.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        detail = f"expected Content-Type: application/json, found {media_type[:80] or 'none'!r}"
        raise ProblemAnswer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
    name = _declared(clients.settings, topic)
    try:
        chosen = check_source_name(source)
    except ValueError as error:
        raise bad_parameter("source", source, str(error)) from None
    body = await request.body()
    try:
        published = await reads.run(lambda: publish_record(clients.settings, name, body, chosen))
    except NotForRecords as error:
        raise ProblemAnswer(HTTPStatus.CONFLICT, "not-for-records", str(error)) from None
    except RecordRefused as error:
        raise ProblemAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", str(error)) from None
    return json_answer(published, HTTPStatus.CREATED)


def _declared(settings: Settings, topic: str) -> str:
    """The physical name. Raises ProblemAnswer (404)."""
    try:
        return declared_topic(settings, topic)
    except UnknownTopic as error:
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", str(error)) from None
