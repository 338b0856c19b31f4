"""The interface between a sink and the loop that runs it."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

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
