"""JSON that clients send to `/failures`, and the shapes of its answers for the OpenAPI document."""

import datetime
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from api.parameters import OptionalTime
from services.failures import replay_jobs
from services.failures.actions import MOST_ID, MOST_IDS
from services.failures.listing import FailureGroup
from services.failures.replay_jobs import ReplayJob
from stores.failure_states import State

FailureId = Annotated[int, Field(ge=1, le=MOST_ID)]
JobId = Annotated[int, Field(ge=1, le=replay_jobs.MOST_ID)]
Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]
Texts = Annotated[list[Text], Field(max_length=MOST_IDS)]

MOST_SET = 1000
"""Fields that one edit sets."""


def encodable(value: Any) -> Any:
    """Refuse what Postgres and Kafka cannot hold: JSON may have halves of surrogate pairs, which are no text."""
    try:
        msgspec.json.encode(value)
    except (ValueError, OverflowError, RecursionError):
        raise PydanticCustomError("not_unicode", "holds half a surrogate pair, or is nested too deeply") from None
    return value


Encodable = Annotated[Any, AfterValidator(encodable)]


class Edit(BaseModel):
    """Either values to set, or the whole payload: text, or a JSON value. `force`: keep it although it is not valid."""

    set: Annotated[dict[Text, Encodable], Field(max_length=MOST_SET)] | None = None
    payload: Encodable = None
    force: bool = False


class Retry(BaseModel):
    """`rate` in records/s.

    `force`: send parked ones, those that would fail again, and those of which a newer record is stored.
    """

    rate: (
        Annotated[float, Field(ge=replay_jobs.LOWEST_RATE, le=replay_jobs.HIGHEST_RATE, allow_inf_nan=False)] | None
    ) = None
    force: bool = False


class RetryMany(Retry):
    """A filter: conditions hold together, and at least one is needed. `dry_run`: only say what would come of it."""

    ids: Annotated[list[FailureId], Field(max_length=MOST_IDS)] = []
    datasets: Texts = []
    sources: Texts = []
    reasons: Texts = []
    keys: Texts = []
    since: OptionalTime = None
    until: OptionalTime = None
    dry_run: bool = False


class Held(BaseModel):
    """A filter of held records: conditions hold together, and at least one is needed."""

    ids: Annotated[list[FailureId], Field(max_length=MOST_IDS)] = []
    datasets: Texts = []
    sources: Texts = []
    reasons: Texts = []
    keys: Texts = []


class Release(Held):
    """`remap`: read with the mapping that sources.toml has for their source now."""

    remap: bool = False


class DiscardHeld(Held):
    """Why; it is kept."""

    reason_text: Text


class Discard(BaseModel):
    """Why; it is kept."""

    reason_text: Text


class FailureGroups(BaseModel):
    """Failures by dataset, stage and reason, the most frequent first."""

    data: list[FailureGroup]


class ListedFailure(BaseModel):
    """A rejected record in a list; `topic`, `partition` and `offset` are the raw record's."""

    id: int
    dataset: str
    source_name: str | None
    key: str | None
    stage: str
    reason: str
    message: str
    state: State
    attempts: int
    failed_at: datetime.datetime
    topic: str
    partition: int
    offset: int


class FailureItems(BaseModel):
    """A page of failures, newest first."""

    data: list[ListedFailure]
    total: int
    next_before: int | None


class Payload(BaseModel):
    """Bytes as JSON can carry them."""

    encoding: Literal["utf-8", "base64"]
    content: str


class HistoryEntry(BaseModel):
    """An action on a failure. Of payloads the beginning is shown."""

    id: int
    failure_id: int | None
    job_id: int | None
    action: str
    who: str
    at: datetime.datetime
    note: str | None
    before: Payload | None
    after: Payload | None


class Failure(ListedFailure):
    """Everything about a failure. `problems` has each field's error."""

    run_id: str | None
    problems: list[dict[str, Any]]
    replay_of: int | None
    failed_again_as: int | None
    replay_job: int | None
    replayed_key: str | None
    replayed_topic: str | None
    replayed_partition: int | None
    replayed_offset: int | None
    updated_at: datetime.datetime | None
    blocked_by: str | None
    payload: Payload | None
    edited_payload: Payload | None
    history: list[HistoryEntry]


class EditAnswer(BaseModel):
    """The payload before and after; `valid` is false only for a forced edit."""

    before: Payload | None
    after: Payload
    valid: bool


class ReplayJobs(BaseModel):
    """The latest replay jobs, newest first."""

    data: list[ReplayJob]


@dataclass(frozen=True)
class ReplayJobStatus(ReplayJob):
    """A job with how many of its failures are in each state now."""

    outcomes: dict[str, int]


class HeldAnswer(BaseModel):
    """Number of held records that will be released."""

    held: int


class DiscardedHeld(BaseModel):
    """Number of held records that were discarded."""

    discarded: int
