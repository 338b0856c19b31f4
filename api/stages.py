"""What the API needs of the other stages; the entry point gives it, so that no stage imports another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.errors import Explained
from schemas.dataset import Dataset
from services.runs.run import EtlRun, Published


class SourceUnavailable(Explained):
    """The source could not be read. `url` names it; `reason` is what it answered."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason


class IngestRunner(Protocol):
    """Publishes all customers from their source."""

    async def __call__(self, run: EtlRun) -> Published:
        """Publish under this run. Raises SourceUnavailable, or Unavailable for Kafka."""
        ...


class RecordDeleter(Protocol):
    """Publishes the delete of one record."""

    async def __call__(self, dataset: Dataset, key: str) -> Published:
        """Publish a tombstone for this key. Raises Unavailable for Kafka."""
        ...


class PartitionLag(Protocol):
    """How far a consumer group is in one partition, up to the last stable offset; see monitoring.lag."""

    @property
    def group(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def committed(self) -> int | None: ...
    @property
    def end(self) -> int: ...
    @property
    def lag(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def held_seconds(self) -> float | None: ...


class LagReader(Protocol):
    """Reads the lag of every group. Raises KafkaException when the broker does not answer."""

    async def __call__(self) -> Sequence[PartitionLag]: ...


class AuditReader(Protocol):
    """Audits every raw partition. Raises KafkaException when the broker does not answer."""

    async def __call__(self, engine: AsyncEngine) -> Mapping[str, Any]:
        """The audit as JSON: `clean`, and `partitions` with what is covered, in flight, lost, and more."""
        ...


class SignatureRefused(Exception):
    """A webhook's request is not signed, wrongly signed, or too old. The message says which, and gives nothing away."""


class BodyRefused(Exception):
    """A webhook's body is no JSON object or array."""


class TooManyRecords(Exception):
    """A webhook's array is longer than the source takes."""


class KeyRefused(Exception):
    """A webhook's request has no idempotency key, or none that can be one."""


class KeyReused(Exception):
    """A webhook's idempotency key came before with another body."""


class DeliveryUnderWay(Exception):
    """What came with the same idempotency key is being published: send it again in a moment."""


class Webhook(Protocol):
    """A source whose records are posted to us."""

    @property
    def max_bytes(self) -> int: ...
    @property
    def dataset(self) -> str: ...

    async def accept(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Publish the records in a body; returns how many, once the broker has confirmed them all.

        Raises SignatureRefused, BodyRefused, TooManyRecords, KeyRefused, KeyReused, DeliveryUnderWay, or Unavailable.
        """
        ...


class Webhooks(Protocol):
    """The webhook sources."""

    async def named(self, name: str, /) -> Webhook | None:
        """The webhook source of that name. Raises Unavailable where it cannot be told."""
        ...

    async def close(self) -> None:
        """Called once when the API stops."""
        ...


@dataclass(frozen=True)
class Stages:
    """The other stages, as the API calls them."""

    ingest: IngestRunner
    delete: RecordDeleter
    lag: LagReader
    audit: AuditReader
    webhooks: Webhooks
