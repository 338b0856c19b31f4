"""The interfaces of a sink: the one of the loop that runs it, and the one of `headrace audit --deep`, if it has any."""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from runtime.settings import Settings
from schemas.dataset import Dataset

Batch = TypeVar("Batch")

Message = Any
"""A confluent-kafka Message without an error."""


class Sink(Protocol[Batch]):
    """Writes batches of messages to one store. Constructors do not connect."""

    @property
    def name(self) -> str:
        """As it is declared in schemas/sinks.py, which says what it reads and as which consumer group."""

    @property
    def paused(self) -> Mapping[str, str]:
        """Logical topics of which nothing can be written now, and why. The others are not kept from going on.

        Set by `setup` and by `write`, which leaves out what came on these topics: it is not committed, and comes again
        once `setup`, which is repeated until then, has taken the topic out.
        """

    async def setup(self) -> None:
        """Make the store ready; idempotent. Raises Backpressure while the store can't be reached."""

    def prepare(self, messages: Sequence[Message]) -> Batch:
        """Decode messages, in order of arrival. Pure, and called from another thread than `write`.

        Must not raise for bad input: what does not decode becomes a failure in the batch.
        """

    async def write(self, batch: Batch) -> Awaitable[None] | None:
        """Bring a batch into the store, durably. Idempotent: a batch may come again, whole or in part.

        What it published meanwhile may still be unconfirmed: then it returns an awaitable that ends once the broker has
        confirmed all of it. Raises Backpressure when the store is down; the same batch is then written again.
        """

    async def close(self) -> None:
        """Release connections; never raises for a store that is gone."""


PAGE = 2_000
"""Keys per question: what bounds the memory."""


class Held(NamedTuple):
    """An entry of a store under a key."""

    version: int
    record: bool = True
    """False where it says that there is no such record."""
    serves: bool = True
    """False where readers get no answer from it, as from a cache's floor alone."""


Holdings = dict[str, Held]


class HeldVersions(Protocol):
    """A store that follows Postgres."""

    name: str
    group: str
    """The consumer group that fills it."""
    complete: bool
    """True if it must hold every row; a cache holds what was asked for."""

    @classmethod
    def opened(cls, settings: Settings) -> AbstractAsyncContextManager[Self]:
        """Connected to the store."""

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
        """Its entries under those of the keys that it knows."""

    def pages(self, dataset: Dataset) -> AsyncIterator[Sequence[str]]:
        """The keys of all records that it holds; one may come twice."""


class StoreTrouble(Exception):
    """A store answers, but not with what was asked for."""
