"""`headrace sink elasticsearch`: *.changed → search indices, by bulk requests of raw bytes with external versions."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from http import HTTPStatus
from typing import Any, Self, TypedDict

import msgspec
import structlog

from runtime.errors import Backpressure
from runtime.kafka.confirmed import Publisher
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import ChangeEvent, FailedRecord, Origin
from schemas.registry import all_datasets, ingested_datasets
from schemas.sinks import sink_named
from sinks.changes import ChangeReader
from sinks.failed_records import NO_PARTITION, RawPayloads, now_ms, outgoing_failure
from sinks.sink import PAGE, Held, Holdings, Message, StoreTrouble
from stores.search_index import SEARCH_TEXT, alias_name, ensure_indices
from stores.search_server import SearchRefused, SearchServer, TransportError

STORE = "Elasticsearch"
STAGE = "elasticsearch"

REQUEST_SECONDS = 60.0
TRIES = 4
"""Of a question that changes nothing."""

SCROLL = "2m"
"""For so long after each page the server keeps the place of a reader of all documents."""

MAX_BULK_BYTES = 8_000_000
"""Elasticsearch advises 5 to 15 MB; a single larger document goes in a request of its own."""

_OVERLOADED = {429, 502, 503, 504}
_REFUSED_WHOLE = {400, 413}

# Item errors that are about the index, not the document: somebody deleted or closed it, or the disk is full.
_INDEX_TROUBLE = {"index_not_found_exception", "cluster_block_exception", "index_closed_exception",
                  "unavailable_shards_exception", "no_shard_available_action_exception"}  # fmt: skip

log = structlog.get_logger()

_encode = msgspec.json.Encoder().encode


class BulkItem(msgspec.Struct, frozen=True, gc=False):
    """One change and its lines in a bulk request."""

    dataset: Dataset
    change: ChangeEvent
    lines: bytes


class ElasticsearchSink:
    """Implements Sink. A document that the index knows newer answers 409, which is success."""

    name = "elasticsearch"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server = SearchServer(settings, REQUEST_SECONDS)
        self._publisher = Publisher(settings)
        self._payloads = RawPayloads(settings)
        self._reader = ChangeReader(settings, ChangeEvent)
        self._ingested = {dataset.name for dataset in ingested_datasets()}
        self.paused: dict[str, str] = {}
        self._aliases = {dataset.name: alias_name(dataset, settings) for dataset in all_datasets()}

    async def setup(self) -> None:
        with _outages_held():
            misfits = (await ensure_indices(self._server, self._settings)).misfits
        self.paused = {one.changed_topic: misfits[one.name] for one in all_datasets() if one.name in misfits}

    def prepare(self, messages: Sequence[Message]) -> list[BulkItem]:
        items = []
        for dataset, change in self._reader.newest(messages):
            try:
                lines = bulk_lines(self._aliases[dataset.name], dataset, change)
            except (msgspec.MsgspecError, UnicodeError) as error:
                log.error(  # noqa: TRY400 (the input is at fault: no trace needed)
                    "not_a_document", dataset=dataset.name, key=change.key, version=change.version, error=str(error)
                )
            else:
                items.append(BulkItem(dataset, change, lines))
        return items

    async def write(self, batch: list[BulkItem]) -> Awaitable[None] | None:
        if self.paused:
            batch = [item for item in batch if item.dataset.changed_topic not in self.paused]
        refused = await self.index(batch)
        if not refused:
            return None
        # Behind a row that the API has written there is no record to read back.
        came = [failed for failed in refused if failed.dataset in self._ingested]
        written = [failed for failed in refused if failed.dataset not in self._ingested]
        failures = [*await self._payloads.attach(came), *written]
        return (await self._publisher.publish([outgoing_failure(one, self._settings) for one in failures])).confirmed()

    async def index(self, batch: list[BulkItem]) -> list[FailedRecord]:
        """Index a batch's documents; returns the failures of those that are refused. Raises Backpressure."""
        return [failed for items in _requests(batch) for failed in await self._bulk(items)]

    async def close(self) -> None:
        await self._publisher.close()
        await self._payloads.close()
        await self._server.close()

    async def _bulk(self, items: list[BulkItem]) -> list[FailedRecord]:
        body = b"".join([item.lines for item in items])
        try:
            if not (await self._post(body, "errors"))["errors"]:
                return []
            # Which ones is asked by sending it again: what is in the index answers 409. Nearly always nobody has to
            # write, send and read ten thousand answers.
            answer = await self._post(body, "errors,items.*.status,items.*.error")
        except SearchRefused as error:
            if error.status not in _REFUSED_WHOLE:
                raise
            # Too large, or one item of it (an id of more than 512 bytes) makes Elasticsearch refuse the whole request.
            if len(items) > 1:
                middle = len(items) // 2
                return await self._bulk(items[:middle]) + await self._bulk(items[middle:])
            return [refusal(items[0], _in_words(error))]
        return await self._refusals(items, answer["items"]) if answer["errors"] else []

    async def _post(self, body: bytes, told: str) -> dict[str, Any]:
        """Send a bulk request; returns what is told of it: a `filter_path`. Raises Backpressure and SearchRefused."""
        with _outages_held():
            target = f"/_bulk?require_alias=true&filter_path={told}"
            answer: dict[str, Any] = await self._server.ask("POST", target, body)
        return answer

    async def _refusals(self, items: list[BulkItem], answers: list[dict[str, Any]]) -> list[FailedRecord]:
        refused = []
        for item, answer in zip(items, answers, strict=True):
            [result] = answer.values()
            status, error = result["status"], result.get("error") or {}
            if status < 300 or status == 409 or (status == 404 and item.change.op == "deleted" and not error):
                continue
            kind, message = error.get("type", str(status)), error.get("reason", "")
            if kind == "index_not_found_exception":
                await self.setup()
            if status >= 500 or status == 429 or kind in _INDEX_TROUBLE:
                raise Backpressure(STORE, f"{kind}: {message}")
            cause = (error.get("caused_by") or {}).get("reason")
            refused.append(refusal(item, f"{kind}: {message}" + (f" ({cause})" if cause else "")))
        return refused


class Documents:
    """The documents in Elasticsearch: their external versions are those of the rows."""

    name = "elasticsearch"
    group = sink_named("elasticsearch").group
    complete = True

    def __init__(self, server: SearchServer, settings: Settings) -> None:
        self._server = server
        self._settings = settings

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[Self]:
        async with SearchServer(settings, REQUEST_SECONDS, TRIES) as server:
            yield cls(server, settings)

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
        if not keys:
            return {}
        index = alias_name(dataset, self._settings)
        documents = await self._documents(index, keys)
        if any(_error(document) == "no_shard_available_action_exception" for document in documents):
            await self._allocated(index)
            documents = await self._documents(index, keys)
        held: Holdings = {}
        for document in documents:
            if _error(document) not in (None, "index_not_found_exception"):
                error = document["error"]
                raise StoreTrouble(f"can't read {index}/{document['_id']}: {error['type']}: {error['reason']}")
            if document.get("found"):
                held[document["_id"]] = Held(document["_version"])
        return held

    async def pages(self, dataset: Dataset) -> AsyncIterator[Sequence[str]]:
        index = alias_name(dataset, self._settings)
        try:
            await self._server.ask("HEAD", f"/{index}")
        except SearchRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return  # the sink makes it with its next batch, and so does its restart
            raise
        await self._allocated(index)
        await self._server.ask("POST", f"/{index}/_refresh")
        # A scroll, not a point in time, which each of the two servers has under a name of its own.
        target = f"/{index}/_search?scroll={SCROLL}&allow_partial_search_results=false"
        answer = await self._server.ask("POST", target, {"size": PAGE, "sort": ["_doc"], "_source": False})
        try:
            while hits := answer["hits"]["hits"]:
                yield [hit["_id"] for hit in hits]
                more = {"scroll": SCROLL, "scroll_id": answer["_scroll_id"]}
                answer = await self._server.ask("POST", "/_search/scroll", more)
        finally:
            await self._server.ask("DELETE", "/_search/scroll", {"scroll_id": answer["_scroll_id"]})

    async def _documents(self, index: str, keys: Sequence[str]) -> list[dict[str, Any]]:
        target = f"/{index}/_mget?_source=false"
        documents: list[dict[str, Any]] = (await self._server.ask("POST", target, {"ids": list(keys)}))["docs"]
        return documents

    async def _allocated(self, index: str) -> None:
        """Wait for the shards of an index that was made a moment ago, 30 s at most."""
        await self._server.ask("GET", f"/_cluster/health/{index}?wait_for_status=yellow&timeout=30s")


def _error(document: dict[str, Any]) -> str | None:
    error: dict[str, str] = document.get("error") or {}
    return error.get("type")


def bulk_lines(index: str, dataset: Dataset, change: ChangeEvent) -> bytes:
    """Action and document of a change, each with its line end. Pure. The row's JSON is passed through.

    Raises msgspec.MsgspecError or UnicodeError for a row that is no JSON object.
    """
    meta = b'{"_index":%b,"_id":%b,"version":%d,"version_type":"external"}' % (
        _encode(index), _encode(change.key), change.version,
    )  # fmt: skip
    if change.op == "deleted":
        return b'{"delete":%b}\n' % meta
    data = bytes(change.data).strip()
    if b"\n" in data:
        data = msgspec.json.format(data, indent=-1)
    searched = dataset.search_text(_searched(dataset.search_fields)(data))
    return b'{"index":%b}\n%b,"%b":%b}\n' % (meta, data[:-1], SEARCH_TEXT.encode(), _encode(searched))


@cache
def _searched(names: tuple[str, ...]) -> Callable[[bytes], dict[str, Any]]:
    """A function that reads these members of a JSON object, and no others."""
    members: Any = TypedDict("Searched", dict.fromkeys(names, Any), total=False)  # type: ignore[misc]
    return msgspec.json.Decoder[dict[str, Any]](members).decode


def _requests(items: Iterable[BulkItem]) -> Iterable[list[BulkItem]]:
    request: list[BulkItem] = []
    size = 0
    for item in items:
        if request and size + len(item.lines) > MAX_BULK_BYTES:
            yield request
            request, size = [], 0
        request.append(item)
        size += len(item.lines)
    if request:
        yield request


def refusal(item: BulkItem, message: str) -> FailedRecord:
    """The failure of a document that the index refuses. Pure."""
    return FailedRecord(
        dataset=item.dataset.name,
        stage=STAGE,
        reason="elasticsearch_refused",
        message=message,
        origin=item.change.origin or Origin(item.dataset.changed_topic, NO_PARTITION, item.change.version, now_ms()),
        failed_at=now_ms(),
        key=item.change.key,
        payload=bytes(item.change.data),
    )


@contextmanager
def _outages_held() -> Iterator[None]:
    """Raises Backpressure where nobody answers, and for what may be taken later, as once there is room on the disk."""
    try:
        yield
    except (TransportError, SearchRefused) as error:
        if isinstance(error, SearchRefused) and not (error.status in _OVERLOADED or error.kind in _INDEX_TROUBLE):
            raise
        raise Backpressure(STORE, _in_words(error)) from error


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
