"""What a client sends to `/failures`."""

from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from api.parameters import OptionalTime
from services.failures import replay_jobs as replays
from services.failures.actions import MOST_ID, MOST_IDS

FailureId = Annotated[int, Field(ge=1, le=MOST_ID)]
JobId = Annotated[int, Field(ge=1, le=replays.MOST_ID)]
Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]
Texts = Annotated[list[Text], Field(max_length=MOST_IDS)]

MOST_SET = 1000
"""Fields that one edit sets."""


def encodable(value: Any) -> Any:
    """What Postgres and Kafka can hold: JSON may have halves of surrogate pairs, which are no text."""
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

    rate: Annotated[float, Field(ge=replays.LOWEST_RATE, le=replays.HIGHEST_RATE, allow_inf_nan=False)] | None = None
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
    datasets: list[Text] = []
    sources: list[Text] = []
    reasons: list[Text] = []
    keys: list[Text] = []


class Release(Held):
    """`remap`: read with the mapping that sources.toml has for their source now."""

    remap: bool = False


class DiscardHeld(Held):
    """Why; it is kept."""

    reason_text: Text


class Discard(BaseModel):
    """Why; it is kept."""

    reason_text: Text
