"""Examines failures before they are sent again: the message to send, is it valid now, is there an obstacle?

`plan` is a dry run over all selected failures.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.kafka.confirmed import BY_KEY, Outgoing
from runtime.kafka.lookup import Coordinates, RawLookup
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import HEADER_REPLAY_COUNT, HEADER_REPLAY_OF, HEADER_RUN, Origin
from schemas.registry import ingested_datasets
from services.failures.listing import Failure, following
from services.failures.raw_records import find_raw_records, to_send
from services.failures.selection import Selection
from services.failures.settling import settled
from services.renormalizing import RawRecord, verdict_on
from stores.epochs import real_partition, real_topic, topic_of
from stores.failure_states import State
from stores.origins import stored_origins
from stores.tables import ingest_failures

Expected = Literal["valid", "invalid", "newer_record", "original_gone"]
"""invalid: it would fail again. newer_record: one of its key has been stored since. A replay sends both only if it is
forced. original_gone: its bytes are nowhere any more; a replay never sends it.
"""

PLAN_STEP = 500

NOT_SENT_AGAIN = (HEADER_REPLAY_OF, HEADER_REPLAY_COUNT, HEADER_RUN)
"""Headers that a replay leaves out. The run has counted the record already: its replay belongs to no run."""

FOREIGN = "foreign"
FOREIGN_OBSTACLE = "it came from none of our raw records, so there is nothing to send again; discard it"
GONE = "its original bytes are nowhere any more: neither in the topic nor in Postgres"


@dataclass(frozen=True)
class Candidate:
    """A failure and the message that would be sent. `obstacle` says why it should not be.

    Without a message there is nothing to send; with one, `force` overrides the obstacle.
    """

    failure: Failure
    obstacle: str | None = None
    message: Outgoing | None = None
    valid_key: str | None = None
    """The record's key if it is valid now."""
    origin: Origin | None = None
    overtaken: bool = False
    """A newer record of its key is stored."""

    def expected(self, *, force: bool) -> Expected:
        """The expected end of a replay of it."""
        if self.message is None:
            return "original_gone"
        if self.overtaken and not force:
            return "newer_record"
        return "valid" if self.valid_key is not None else "invalid"

    def refusal(self, *, force: bool) -> str | None:
        """The reason why a replay leaves it out; None if it sends it."""
        return None if self.message is not None and force else self.obstacle


@dataclass(frozen=True)
class PlanLine:
    """Failures of one dataset and reason. `expected` or, of those that a replay does not take, their state.

    `sent`: a replay sends them.
    """

    dataset: str
    reason: str
    expected: Expected | State
    sent: bool
    count: int


@dataclass(frozen=True)
class Plan:
    """The result of a dry run: of all selected failures `sent` would be sent, of which `ready` are valid."""

    total: int
    sent: int
    ready: int
    lines: list[PlanLine]


async def plan(settings: Settings, selection: Selection, *, force: bool = False) -> Plan:
    """Foretell what a replay of the selected failures would do; sends and changes nothing. Raises DeliveryFailed."""
    counts: Counter[tuple[str, str, Expected | State, bool]] = Counter()
    after = 0
    taken = ("open", "parked") if force else ("open",)
    async with settled(settings) as connection, RawLookup(settings) as lookup:
        while failures := await following(connection, selection, PLAN_STEP, after):
            after = failures[-1]["id"]
            others = [one for one in failures if one["state"] not in taken]
            counts.update((one["dataset"], one["reason"], one["state"], False) for one in others)
            wanted = [one for one in failures if one["state"] in taken]
            for candidate in await examine(connection, lookup, wanted):
                one, is_sent = candidate.failure, candidate.refusal(force=force) is None
                counts[one["dataset"], one["reason"], candidate.expected(force=force), is_sent] += 1
    lines = [PlanLine(*line, number) for line, number in sorted(counts.items())]
    sent = sum(line.count for line in lines if line.sent)
    ready = sum(line.count for line in lines if line.sent and line.expected == "valid")
    return Plan(counts.total(), sent, ready, lines)


async def examine(connection: AsyncConnection, lookup: RawLookup, failures: Sequence[Failure]) -> list[Candidate]:
    """A candidate per failure, in their order. Changes nothing. Raises DeliveryFailed when Kafka does not answer."""
    datasets = {dataset.name: dataset for dataset in ingested_datasets()}
    records = await find_raw_records(connection, lookup, failures)
    candidates = [_candidate(one, datasets.get(one["dataset"]), records.get(one["id"])) for one in failures]
    newer = await _newer_records(connection, datasets, candidates)
    return [
        replace(candidate, obstacle=newer[number], overtaken=True)
        if (number := candidate.failure["id"]) in newer
        else candidate
        for candidate in candidates
    ]


def _candidate(failure: Failure, dataset: Dataset | None, raw: RawRecord | None) -> Candidate:
    if dataset is None:
        return Candidate(failure, f"no dataset {failure['dataset']!r} takes records")
    if failure["reason"] == FOREIGN:
        return Candidate(failure, FOREIGN_OBSTACLE)
    if raw is None:
        return Candidate(failure, GONE)
    record = to_send(failure, raw)
    verdict = verdict_on(dataset, record)
    key = raw.key
    if verdict.key is not None and (key is None or failure["edited_payload"] is not None):
        key = verdict.key.encode()
    headers = (
        *((name, text) for name, text in record.headers if name not in NOT_SENT_AGAIN),
        (HEADER_REPLAY_OF, str(failure["id"]).encode()),
        (HEADER_REPLAY_COUNT, str(failure["attempts"] + 1).encode()),
    )
    # Its own partition, if its key stays: there the order of the key is kept.
    partition = real_partition(failure["partition"]) if key == raw.key else BY_KEY
    return Candidate(
        failure,
        obstacle=None if verdict.key is not None else f"it would fail again ({verdict.reason}): {verdict.message}",
        message=Outgoing(real_topic(failure["topic"]), partition, key, record.value, headers),
        valid_key=verdict.key,
        origin=Origin(failure["topic"], failure["partition"], failure["offset"], raw.timestamp),
    )


async def _newer_records(
    connection: AsyncConnection, datasets: Mapping[str, Dataset], candidates: Sequence[Candidate]
) -> dict[int, str]:
    """By failure id, the obstacle that a newer record of its key has been stored, or has deleted it, since."""
    keyed: dict[str, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for one in candidates:
        key = one.valid_key or one.failure["key"]
        if one.message is not None and key is not None:
            keyed[one.failure["dataset"]][key].append(one)
    newer: dict[int, tuple[str, Coordinates]] = {}
    for name, by_key in keyed.items():
        for key, origin in (await stored_origins(connection, datasets[name], by_key)).items():
            for one in by_key[key]:
                # One that only Elasticsearch refused is itself what Postgres holds.
                if one.origin is not None and origin.is_newer_than(one.origin):
                    topic = topic_of(real_topic(one.failure["topic"]), origin.partition)
                    newer[one.failure["id"]] = key, (topic, origin.partition, origin.offset)
    replays = await _replays_at(connection, [place for _, place in newer.values()])
    return {
        failure_id: f"a newer record of {key} has been stored since, from partition {real_partition(place[1])}, "
        f"offset {place[2]}"
        for failure_id, (key, place) in newer.items()
        # What holds the key may itself be a replay of an older failure: then this one is the newer of the two.
        if replays.get(place, failure_id) >= failure_id
    }


async def _replays_at(connection: AsyncConnection, places: Sequence[Coordinates]) -> dict[Coordinates, int]:
    f = ingest_failures.c
    columns = (f.replayed_topic, f.replayed_partition, f.replayed_offset)
    if not places:
        return {}
    rows = await connection.execute(select(*columns, f.id).where(tuple_(*columns).in_(list(places))))
    return {(topic, partition, offset): failure_id for topic, partition, offset, failure_id in rows}
