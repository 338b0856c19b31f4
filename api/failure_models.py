"""The shapes of what `/failures` answers, for the OpenAPI document."""

import datetime
from typing import Any, Literal

from pydantic import BaseModel

from services.failures.desk import PlanLine
from services.failures.listing import FailureGroup
from stores.failure_states import JobState, State


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
    """What was done about a failure. Of payloads the beginning is shown."""

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


class ReplayJob(BaseModel):
    """A replay job. `attended`: some process is running it now."""

    id: int
    state: JobState
    selection: dict[str, Any]
    rate: float | None
    forced: bool
    total: int
    sent: int
    skipped: int
    who: str
    started_at: datetime.datetime
    ended_at: datetime.datetime | None
    attended: bool


class ReplayJobs(BaseModel):
    """The latest replay jobs, newest first."""

    data: list[ReplayJob]


class ReplayJobStatus(ReplayJob):
    """A job with how many of its failures are in each state now."""

    outcomes: dict[str, int]


class PlanAnswer(BaseModel):
    """What a replay would do: `sent` failures would be sent, of which `ready` are valid."""

    total: int
    sent: int
    ready: int
    lines: list[PlanLine]


class HeldAnswer(BaseModel):
    """How many records are held and will be released."""

    held: int


class DiscardedHeld(BaseModel):
    """How many held records were discarded."""

    discarded: int
