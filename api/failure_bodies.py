"""What a client sends to `/failures`."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from runtime.failures.actions import MOST_IDS

FailureId = Annotated[int, Field(ge=1, le=2**63 - 1)]
JobId = Annotated[int, Field(ge=1, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


class Edit(BaseModel):
    """Either values to set, or the whole payload: text, or a JSON value. `force`: keep it although it is not valid."""

    set: dict[Text, Any] | None = None
    payload: Any = None
    force: bool = False


class Retry(BaseModel):
    """`rate` in records/s. `force`: send parked ones, and those of which a newer record is stored."""

    rate: Annotated[float, Field(gt=0)] | None = None
    force: bool = False


class RetryMany(Retry):
    """A filter: conditions hold together, and at least one is needed. `dry_run`: only say what would come of it."""

    ids: Annotated[list[FailureId], Field(max_length=MOST_IDS)] = []
    datasets: list[Text] = []
    sources: list[Text] = []
    reasons: list[Text] = []
    keys: list[Text] = []
    since: datetime | None = None
    until: datetime | None = None
    dry_run: bool = False


class Discard(BaseModel):
    """Why; it is kept."""

    reason_text: Text
