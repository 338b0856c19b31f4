"""`POST /webhooks/{source}`: records that a sender pushes, signed; accepted once Kafka has them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from api.access import GuardedRoute, for_everybody
from api.answers import json_answer
from api.clients import from_state
from api.middleware import LONGEST_BODY, MORE_HEADERS
from api.problems import ProblemAnswer
from api.request_counts import WEBHOOK, Kind, RequestCounts
from api.request_limits import headers_of, too_many, who_asks
from producers.sources import SourcesError
from producers.webhook.deliveries import DeliveryUnderWay, KeyRefused, KeyReused
from producers.webhook.source import SignatureRefused
from producers.webhook.webhooks import BodyRefused, TooManyRecords, Webhook, Webhooks
from runtime.errors import DeliveryFailed
from stores.outages import Unavailable

log = structlog.get_logger()

router = APIRouter(tags=["webhooks"], route_class=GuardedRoute)

OurWebhooks = Annotated[Webhooks, from_state("webhooks")]

OurCounts = Annotated[RequestCounts, from_state("request_counts")]

REFUSALS: Mapping[type[Exception], tuple[HTTPStatus, str, Mapping[str, str]]] = {
    SignatureRefused: (HTTPStatus.UNAUTHORIZED, "invalid-signature", {"WWW-Authenticate": "HMAC-SHA256"}),
    BodyRefused: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", {}),
    KeyRefused: (HTTPStatus.BAD_REQUEST, "invalid-idempotency-key", {}),
    KeyReused: (HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency-key-reused", {}),
    DeliveryUnderWay: (HTTPStatus.CONFLICT, "delivery-under-way", {"Retry-After": "1"}),
}
"""Status, code and headers of the answer to a delivery that is refused."""


class AcceptedAnswer(BaseModel):
    """The number of records that were taken, and their dataset."""

    accepted: int
    source: str
    dataset: str


@router.post(
    "/webhooks/{source}",
    status_code=HTTPStatus.ACCEPTED,
    response_model=AcceptedAnswer,
    summary="Push records to a webhook source",
    responses={
        400: {"description": "The idempotency key is missing or malformed"},
        401: {"description": "The signature is missing, wrong or too old"},
        404: {"description": "There is no such webhook source"},
        409: {"description": "A request with the same idempotency key is under way; send it again"},
        413: {"description": "The body is too long, or has too many records"},
        422: {"description": "The body is no object or array, or its idempotency key came with another body"},
        429: {"description": "The source has sent too many, or the caller too many that were refused"},
        503: {"description": "Kafka has not confirmed all records; send it again"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": [{"type": "object"}, {"type": "array"}]}}},
        }
    },
)
@for_everybody
async def webhook(webhooks: OurWebhooks, counts: OurCounts, request: Request, source: str) -> Response:
    """Takes a JSON object, or an array of them, signed with HMAC-SHA256 over the bytes of the body.

    Answers 202 when every record is safe in Kafka. One that is no JSON becomes a failure, its neighbours do not.
    What is sent again is published again, and is then the newest; a source with `idempotency_header` publishes a
    delivery once, and answers a repeat as it did the first time.
    """
    limits = DeliveryLimits(counts, request, source)
    try:
        hook = await _named(webhooks, source)
        body = await _body(request, hook.max_bytes, limits)
        accepted = await hook.accept(body, request.headers, limits.admit)
    except tuple(REFUSALS) as error:
        status, code, headers = REFUSALS[type(error)]
        raise limits.judged(ProblemAnswer(status, code, str(error), headers)) from None
    except ProblemAnswer as refusal:
        raise limits.judged(refusal) from None
    except TooManyRecords as error:
        raise _too_large(f"{error}; send several requests") from None
    except DeliveryFailed as error:
        # Senders are strangers: where our servers are is for the log.
        log.warning("webhook_not_confirmed", source=source, reason=str(error))
        raise Unavailable("kafka", "not every record has been confirmed") from error
    answer = {"accepted": accepted, "source": source, "dataset": hook.dataset}
    return json_answer(answer, HTTPStatus.ACCEPTED)


class DeliveryLimits:
    """Counts a delivery against its source when it is known to be signed, and before that, refused, against its caller.

    So who has not the secret takes nothing from who has it, though both may come by one proxy. Small bodies are looked
    at whoever has sent them: to refuse them unread would take as long.
    """

    def __init__(self, counts: RequestCounts, request: Request, source: str) -> None:
        self._counts = counts
        self._scope = request.scope
        self._source = f"{WEBHOOK}{source}"
        self._caller = f"refused {who_asks(request.scope)}"
        self._signed = False

    def admit(self) -> None:
        """It is signed. Raises ProblemAnswer (429) where the source has sent too many."""
        self._signed = True
        verdict = self._counts.ask(Kind.CHANGES, self._source)
        if verdict:
            self._scope[MORE_HEADERS] = headers_of(Kind.CHANGES, verdict)
            if verdict.wait:
                raise too_many(Kind.CHANGES, verdict)

    def check_length(self, length: int) -> None:
        """Raise ProblemAnswer (429) for a long body where the caller has sent too many that were refused."""
        if length > LONGEST_BODY and (verdict := self._counts.refusal(Kind.CHANGES, self._caller)):
            raise too_many(Kind.CHANGES, verdict)

    def judged(self, refusal: ProblemAnswer) -> ProblemAnswer:
        """The refusal itself, or a 429 where one without a signature is one too many of its caller."""
        if not self._signed and (verdict := self._counts.ask(Kind.CHANGES, self._caller)) and verdict.wait:
            return too_many(Kind.CHANGES, verdict)
        return refusal


async def _named(webhooks: Webhooks, source: str) -> Webhook:
    try:
        hook = await webhooks.named(source)
    except SourcesError as error:
        raise Unavailable("sources", "this source is misconfigured; the log of this server says how") from error
    if hook is None:
        detail = f"There is no webhook source {source[:80]!r}; it is a block of kind webhook in sources.toml"
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", detail)
    return hook


async def _body(request: Request, longest: int, limits: DeliveryLimits) -> bytes:
    """The body, of which no more than `longest` bytes are ever held."""
    too_long = _too_large(f"The body is longer than the {longest} bytes that this source takes; send several requests")
    declared = request.headers.get("content-length", "")
    length = int(declared[:20]) if declared.isascii() and declared.isdecimal() else 0
    if length > longest:
        raise too_long
    limits.check_length(length)
    pieces: list[bytes] = []
    held = 0
    try:
        async for piece in request.stream():
            held += len(piece)
            if held > longest:
                raise too_long
            limits.check_length(held)
            pieces.append(piece)
    except ClientDisconnect:
        raise ProblemAnswer(HTTPStatus.BAD_REQUEST, "incomplete-body", "The connection was closed early") from None
    return b"".join(pieces)


def _too_large(detail: str) -> ProblemAnswer:
    return ProblemAnswer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", detail)
