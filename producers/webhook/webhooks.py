"""Bodies that arrive at webhooks: checked, taken apart into records, and published before the sender has an answer."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from producers.json_parts import NotSplit, TooManyParts, elements, members
from producers.raw_records import RawHeaders, require_topic
from producers.record_key import JsonRecordKey
from producers.sources import SourcesError, load_sources, sources_version
from producers.webhook.deliveries import Claim, Deliveries, checked_key
from producers.webhook.source import WebhookSource
from runtime.errors import DeliveryFailed
from runtime.kafka.confirmed import BY_KEY, LivePublisher, Outgoing
from runtime.settings import Settings
from runtime.tracing import span
from schemas.text import unmarked

log = structlog.get_logger()

CLAIM_MARGIN_SECONDS = 10.0
"""A claim of a delivery lasts so much longer than publishing may take."""

TOPIC_SECONDS = 5.0


class BodyRefused(Exception):
    """A body that cannot be taken apart into records; the message says why."""


class TooManyRecords(Exception):
    """An array that is longer than the source takes."""


@dataclass
class Webhook:
    """One webhook source. Headers of its records have the run id of this process: nobody started a run."""

    source: WebhookSource
    settings: Settings
    publisher: LivePublisher
    deliveries: Deliveries
    _sent: int = 0
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        description = self.source.description
        self._key = JsonRecordKey(description)
        self._headers = RawHeaders(description, self.run_id)
        self._topic = self.settings.named(description.dataset.raw_topic)
        self._topic_exists = False

    @property
    def max_bytes(self) -> int:
        return self.source.block.max_bytes

    @property
    def dataset(self) -> str:
        return self.source.description.dataset.name

    async def accept(self, body: bytes, headers: Mapping[str, str], admit: Callable[[], None] = lambda: None) -> int:
        """Publish the records in a signed body; returns how many when the broker has confirmed them all.

        `admit` is called when the signature is known to be right, before anything else; what it raises is raised.
        With an idempotency header, a delivery that was published before is not published again; the answer is the same.
        Raises SignatureRefused, BodyRefused, TooManyRecords, KeyRefused and KeyReused; DeliveryFailed,
        DeliveryUnderWay and Unavailable: then the sender is to send it again.
        """
        self.source.block.check_signature(body, headers, time.time())
        admit()
        values = records_in(body)
        if len(values) > self.source.block.max_records:
            raise TooManyRecords(f"{len(values)} records, at most {self.source.block.max_records} are taken at once")
        header = self.source.block.idempotency_header
        if header is None:
            await self._publish(values)
        else:
            await self._publish_once(values, body, checked_key(header, headers.get(header)))
        return len(values)

    async def _publish_once(self, values: list[bytes], body: bytes, key: str) -> None:
        block = self.source.block
        claim = await self.deliveries.claim(
            self.source.description.name, key, body, block.timeout_seconds + CLAIM_MARGIN_SECONDS
        )
        if not isinstance(claim, Claim):
            return
        try:
            await self._publish(values)
        except DeliveryFailed:
            await self.deliveries.release(claim)
            raise
        await self.deliveries.remember(claim, len(values), block.idempotency_seconds)

    async def _publish(self, values: list[bytes]) -> None:
        if not self._topic_exists:
            seconds = min(TOPIC_SECONDS, self.source.block.timeout_seconds)
            await asyncio.to_thread(require_topic, self.settings, self._topic, seconds)
            self._topic_exists = True
        with span(f"publish {self.source.description.name}", "PRODUCER", messaging_destination_name=self._topic):
            self._headers.start_batch()
            messages = []
            for value in values:
                headers = self._headers.of(self._sent, None)
                messages.append(Outgoing(self._topic, BY_KEY, self._key.of(value), value, headers))
                self._sent += 1
            await self.publisher.publish(messages)


def records_in(body: bytes) -> list[bytes]:
    """The object, or the elements of the array, as the sender wrote them. Pure. Raises BodyRefused, TooManyRecords.

    One that is no JSON is a record too: the normalizer rejects it, and its neighbours are stored.
    """
    body = unmarked(body)
    start = body.lstrip()[:1]
    if start not in {b"{", b"["}:
        raise BodyRefused(f"expected a JSON object or an array of them; the body begins with {body[:40]!r}")
    try:
        if start == b"[":
            return elements(body)
        members(body)
    except TooManyParts as error:
        raise TooManyRecords(str(error)) from None
    except NotSplit as error:
        raise BodyRefused(f"the body is not JSON: {error}") from None
    return [body]


class Webhooks:
    """The webhook sources of sources.toml. The file is read again when it has changed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read: object = None
        self._broken: Mapping[str, str] = {}
        self._webhooks: dict[str, Webhook] | None = None
        self._publishers: dict[float, LivePublisher] = {}
        self._deliveries = Deliveries(settings)
        self._reading = asyncio.Lock()

    async def named(self, name: str) -> Webhook | None:
        """The webhook source of that name, if there is one.

        A file or a block that has become wrong is told in the log, and what it said before goes on to hold. Raises
        SourcesError where it has been wrong from the beginning.
        """
        async with self._reading:
            state = await asyncio.to_thread(sources_version, self._settings)
            if self._webhooks is None or state != self._read:
                self._webhooks = await self._reread()
                self._read = state
            if name in self._broken and name not in self._webhooks:
                raise SourcesError(self._broken[name])
            return self._webhooks.get(name)

    async def _reread(self) -> dict[str, Webhook]:
        try:
            sources = await asyncio.to_thread(load_sources, self._settings.sources_file, self._settings)
        except SourcesError as error:
            log.warning("sources_file_wrong", reason=str(error))
            if self._webhooks is None:
                raise
            return self._webhooks
        self._broken = sources.broken
        for name, problems in sources.broken.items():
            log.warning("source_misconfigured", source=name, reason=problems)
        kept = {name: hook for name, hook in (self._webhooks or {}).items() if name in sources.broken}
        hooks = [source for source in sources.values() if isinstance(source, WebhookSource)]
        return kept | {hook.description.name: self._webhook(hook) for hook in hooks}

    async def close(self) -> None:
        await asyncio.gather(*(publisher.close() for publisher in self._publishers.values()))
        await self._deliveries.close()

    def _webhook(self, source: WebhookSource) -> Webhook:
        known = (self._webhooks or {}).get(source.description.name)
        if known is not None and known.source == source:
            return known
        seconds = source.block.timeout_seconds
        publisher = self._publishers.setdefault(seconds, LivePublisher(self._settings, seconds))
        return Webhook(source, self._settings, publisher, self._deliveries)
