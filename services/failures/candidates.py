"""Looks at failures before they are sent again: what would be sent, whether it is valid now, what speaks against it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.kafka.lookup import RawLookup
from runtime.rehearsals import REASON as REHEARSAL
from schemas.dataset import Dataset
from schemas.errors import FieldProblem
from schemas.events import HEADER_REPLAY_COUNT, HEADER_REPLAY_OF, HEADER_RUN
from schemas.registry import ingested_datasets
from services.failures.desk import Expected
from services.failures.raw_records import Headers, Original, find_originals, repaired
from stores.arrivals import Place, stored_places
from stores.tables import ingest_failures

Failure = Mapping[str, Any]


class Verdict(Protocol):
    """What the normalizer would say: the key of a valid record, or the reason and every field's problem."""

    @property
    def key(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def message(self) -> str: ...
    @property
    def problems(self) -> tuple[FieldProblem, ...]: ...


class RecordCheck(Protocol):
    """Tries a raw record without sending it. Pure."""

    def __call__(self, dataset: Dataset, key: bytes | None, value: bytes | None, headers: Headers) -> Verdict: ...


@dataclass(frozen=True)
class Candidate:
    """A failure as it would be sent. `obstacle` says why it should not be; `partition` None leaves it to the key."""

    failure: Failure
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    verdict: Verdict | None = None
    obstacle: str | None = None
    overridable: bool = False
    overtaken: bool = False
    """Whether a newer record of its key is stored."""

    @property
    def valid_key(self) -> str | None:
        """The record's key if it is valid now."""
        return self.verdict.key if self.verdict else None

    def expected(self, *, force: bool) -> Expected:
        """What a replay would do with it; see `PlanLine`."""
        if self.obstacle and not self.overridable:
            return "original_gone"
        if self.overtaken and not force:
            return "newer_record"
        return "valid" if self.valid_key is not None else "invalid"

    def refusal(self, *, force: bool) -> str | None:
        """Why a replay leaves it out; None if it sends it."""
        return None if self.overridable and force else self.obstacle


NOT_SENT_AGAIN = (HEADER_REPLAY_OF, HEADER_REPLAY_COUNT, HEADER_RUN)
"""Headers of the record before. Its run has counted it: what is sent again is none of that run's records."""

FOREIGN = "foreign"
NOBODYS = "it came from none of our raw records, so there is nothing to send again; discard it"

GONE = "its original bytes are nowhere any more: neither in the topic nor in Postgres"


async def examine(
    connection: AsyncConnection, lookup: RawLookup, check: RecordCheck, failures: Sequence[Failure]
) -> list[Candidate]:
    """A candidate per failure, in their order. Changes nothing. Raises DeliveryFailed when Kafka does not answer."""
    datasets = {dataset.name: dataset for dataset in ingested_datasets()}
    originals = await find_originals(connection, lookup, failures)
    newer = await _overtaken(connection, datasets, failures, originals, check)
    candidates = []
    for failure in failures:
        dataset = datasets.get(failure["dataset"])
        original = originals.get(failure["id"])
        if dataset is None:
            candidates.append(Candidate(failure, obstacle=f"no dataset {failure['dataset']!r} takes records"))
        elif failure["reason"] == FOREIGN:
            candidates.append(Candidate(failure, obstacle=NOBODYS))
        elif original is None:
            candidates.append(Candidate(failure, obstacle=GONE))
        else:
            candidates.append(_candidate(failure, original, dataset, check, newer.get(failure["id"])))
    return candidates


def content_of(failure: Failure, original: Original) -> tuple[bytes | None, Headers]:
    """Value and headers to send: the edited ones if there are, else the original's. Pure."""
    if failure["edited_payload"] is None:
        # What a rehearsal marked as unreadable never was.
        return original.value, repaired(original.headers) if failure["reason"] == REHEARSAL else original.headers
    headers = original.headers
    if original.found_in != "topic" and failure["raw_headers"]:
        headers = tuple((name, value.encode()) for name, value in failure["raw_headers"].items())
    return failure["edited_payload"], repaired(headers)


def _candidate(
    failure: Failure, original: Original, dataset: Dataset, check: RecordCheck, newer: str | None
) -> Candidate:
    value, headers = content_of(failure, original)
    verdict = check(dataset, original.key, value, headers)
    key = original.key
    if verdict.key is not None and (key is None or failure["edited_payload"] is not None):
        key = verdict.key.encode()
    return Candidate(
        failure,
        key=key,
        value=value,
        headers=(
            *((name, text) for name, text in headers if name not in NOT_SENT_AGAIN),
            (HEADER_REPLAY_OF, str(failure["id"]).encode()),
            (HEADER_REPLAY_COUNT, str(failure["attempts"] + 1).encode()),
        ),
        # The partition that it came in, whoever chose it: there its key's order is kept.
        partition=failure["partition"] if key == original.key else None,
        verdict=verdict,
        obstacle=newer or _still_invalid(verdict),
        overridable=True,
        overtaken=newer is not None,
    )


def _still_invalid(verdict: Verdict) -> str | None:
    return None if verdict.key is not None else f"it would fail again ({verdict.reason}): {verdict.message}"


async def _overtaken(
    connection: AsyncConnection,
    datasets: Mapping[str, Dataset],
    failures: Sequence[Failure],
    originals: Mapping[int, Original],
    check: RecordCheck,
) -> dict[int, str]:
    """Why a failure is overtaken, by id: a newer record of its key has been stored, or deleted it, since."""
    keyed: dict[str, dict[int, str]] = defaultdict(dict)
    for failure in failures:
        dataset, original = datasets.get(failure["dataset"]), originals.get(failure["id"])
        if dataset is not None and original is not None:
            value, headers = content_of(failure, original)
            if (key := check(dataset, original.key, value, headers).key or failure["key"]) is not None:
                keyed[dataset.name][failure["id"]] = key
    by_id = {failure["id"]: failure for failure in failures}
    overtaken: dict[int, tuple[str, Place]] = {}
    for name, keys in keyed.items():
        places = await stored_places(connection, datasets[name], keys.values())
        for failure_id, key in keys.items():
            failure = by_id[failure_id]
            own = Place(failure["partition"], failure["offset"], originals[failure_id].timestamp)
            # One that only Elasticsearch refused is itself what Postgres holds.
            if (place := places.get(key)) is not None and place.is_newer_than(own):
                overtaken[failure_id] = (key, place)
    replays = await _replays_at(connection, [(by_id[i]["topic"], *place[:2]) for i, (_, place) in overtaken.items()])
    return {
        failure_id: f"a newer record of {key} has been stored since, from partition {place[0]}, offset {place[1]}"
        for failure_id, (key, place) in overtaken.items()
        # What holds the key may itself be a replay of an older failure: then this one is the newer of the two.
        if replays.get((by_id[failure_id]["topic"], *place[:2]), failure_id) >= failure_id
    }


async def _replays_at(
    connection: AsyncConnection, places: Sequence[tuple[str, int, int]]
) -> dict[tuple[str, int, int], int]:
    f = ingest_failures.c
    columns = (f.replayed_topic, f.replayed_partition, f.replayed_offset)
    if not places:
        return {}
    rows = await connection.execute(select(*columns, f.id).where(tuple_(*columns).in_(list(places))))
    return {(topic, partition, offset): failure_id for topic, partition, offset, failure_id in rows}
