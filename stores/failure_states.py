"""States of a failure and of a replay job, and the errors with which actions are refused."""

from typing import Literal, get_args

from schemas.errors import FieldProblem
from schemas.sinks import SINKS

State = Literal[
    "open", "queued", "replayed", "parked", "stored", "superseded", "failed_again", "discarded", "held", "released",
    "resolved",
]  # fmt: skip
"""open: nobody has acted. queued: a replay job will send it. replayed: sent and confirmed by the broker, outcome not
known yet. parked: failed again too often. stored: Postgres took it. superseded: it arrived, but the row comes from
another record of its key. failed_again: it failed as another failure (`failed_again_as`). discarded: somebody decided
against it.

held: no failure yet; its source is over the failure limit, and it waits under its coordinates. released: it was held,
or was reprocessed, and has been stored since. resolved: it wanted a unique value that another record had, and it, or a
newer record of its key, has been stored since; so it counts as failed no longer.
"""

TAKEN_SINCE: tuple[State, ...] = ("released", "resolved")
"""States of what is no failure any more: the record has reached another outcome, under its own coordinates."""

DOWNSTREAM_STAGES = tuple(sink.name for sink in SINKS if sink.follows_postgres and sink.refusing)
"""A record that fails there is stored. Its failure has a row, so that somebody sees it, and is not its outcome."""

NOT_DOWNSTREAM = f"f.stage <> ALL('{{{','.join(DOWNSTREAM_STAGES)}}}')"
"""SQL: the failure `f` is the outcome of its record."""

STATES: tuple[State, ...] = get_args(State)

UNSETTLED: tuple[State, ...] = ("open", "queued", "replayed", "parked", "held")
"""States that a list shows by default: people, or the pipeline, still have to deal with these."""

JobState = Literal["running", "paused", "interrupted", "failed", "cancelled", "done"]
"""interrupted: its process is gone. failed: it met an error. Both can be resumed. Failures that a job has not sent are
open again, not queued, unless it is running or paused.
"""


class UnknownFailure(LookupError):
    """No failure, or no job, has that id."""


class ActionRefused(Exception):
    """The action would do harm or nothing. `refusals` has the reason per failure id; `--force` overrides some."""

    def __init__(self, message: str, refusals: dict[int, str] | None = None) -> None:
        super().__init__(message)
        self.refusals = refusals or {}


class StillInvalid(ActionRefused):
    """An edited record that would fail again; `problems` has every field's error."""

    def __init__(self, failure_id: int, reason: str, message: str, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__(f"failure {failure_id} would fail again ({reason}): {message}", {failure_id: message})
        self.reason = reason
        self.problems = problems


class CannotEdit(ValueError):
    """The values cannot be set; the message says why and what to do instead."""


def refuse_all(refusals: dict[int, str]) -> ActionRefused:
    """One refusal that names each failure and its reason."""
    lines = [f"failure {number}: {reason}" for number, reason in refusals.items()]
    return ActionRefused("\n".join(lines), refusals)
