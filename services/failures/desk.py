"""What people can have done with failures, as the API and the commands see it. Producers carry it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from services.failures.replay_jobs import Job
from services.failures.selection import Selection
from stores.failure_states import State

Expected = Literal["valid", "invalid", "newer_record", "original_gone"]
"""invalid: it would fail again. newer_record: one of its key has been stored since. A replay sends those of both only
if it is forced, and what is nowhere any more never.
"""


@dataclass(frozen=True)
class Edited:
    """An edit that has been kept. `valid` is False only if it was forced."""

    before: bytes | None
    after: bytes
    valid: bool


@dataclass(frozen=True)
class PlanLine:
    """Failures of one dataset and reason. `expected` or, of those that a replay does not take, their state.

    `sent`: whether a replay sends them.
    """

    dataset: str
    reason: str
    expected: Expected | State
    sent: bool
    count: int


@dataclass(frozen=True)
class Released:
    """How many records were released, and how many stay held: their bytes are nowhere any more."""

    sent: int
    gone: int


@dataclass(frozen=True)
class Plan:
    """What a replay would do."""

    lines: list[PlanLine] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many are selected."""
        return sum(line.count for line in self.lines)

    @property
    def sent(self) -> int:
        """How many would be sent."""
        return sum(line.count for line in self.lines if line.sent)

    @property
    def ready(self) -> int:
        """How many of those are valid."""
        return sum(line.count for line in self.lines if line.sent and line.expected == "valid")


class Desk(Protocol):
    """Edits, plans and replays. `who` is kept with every action.

    Raises ActionRefused, UnknownFailure, DeliveryFailed for Kafka, and what SQLAlchemy raises when Postgres is gone.
    """

    async def edit(
        self,
        failure_id: int,
        who: str,
        *,
        values: Mapping[str, object] | None = None,
        payload: bytes | None = None,
        force: bool = False,
    ) -> Edited:
        """Keep another payload for the next retry. Raises StillInvalid (unless forced) and CannotEdit."""
        ...

    async def plan(self, selection: Selection, *, force: bool = False) -> Plan:
        """What `start` with the same arguments would do; sends and changes nothing."""
        ...

    async def start(self, selection: Selection, who: str, *, rate: float | None = None, force: bool = False) -> Job:
        """Queue the selected failures as a job; `run` sends them. `rate` in records/s, None for no cap."""
        ...

    async def release(self, selection: Selection, who: str, *, remap: bool = False) -> Released:
        """Have held records normalized anew, under their own coordinates. `remap`: read with the mapping of today.

        Idempotent. Raises ActionRefused where there is no mapping of today.
        """
        ...

    async def run(self, job_id: int, who: str, progress: Callable[[Job], None] | None = None) -> Job:
        """Send what the job has queued. When the task is cancelled, the job is paused."""
        ...
