"""Puts together what the stores said: the events of a key in order of time, and how it stands. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from runtime.kafka.browse import TopicMessage, at_ms
from runtime.kafka.lookup import Coordinates
from schemas.events import HEADER_PROBLEM, HEADER_RUN, HEADER_SOURCE, ChangeEvent, Origin
from services.trace.findings import (
    ApiFinding,
    Away,
    CacheFinding,
    DeadLetter,
    DocumentFinding,
    Findings,
    KafkaFindings,
    PostgresFindings,
)
from services.trace.model import Outcome, Stage, StoreAnswer, StoreState, Trace, TraceEvent
from stores.epochs import real_partition, topic_of

_ORDER: tuple[Stage, ...] = ("raw", "landing", "normalizer", "postgres", "failure", "changed")

OPEN_STATES = ("open", "queued", "replayed", "parked", "held")


def assemble(found: Findings) -> Trace:
    """The trace of a key from what was found."""
    events = sorted(_events(found), key=lambda pair: pair[0])
    stores = _stores(found)
    kafka = found.kafka if isinstance(found.kafka, KafkaFindings) else None
    known = bool(events) or any(one.state in ("has it", "older", "newer", "deleted") for one in stores)
    ordered = [event for _, event in events]
    return Trace(
        found.dataset.name,
        found.key,
        found.asked,
        known,
        _summary(found, ordered, stores, known=known),
        kafka.partition if kafka else None,
        ordered,
        stores,
        kafka.searched if kafka else [],
        list(_notes(found, ordered)),
    )


Sorted = tuple[tuple[float, int, int], TraceEvent]


class _Events:
    """Makes the events of each raw record; the time of the record stands in where an event has none."""

    def __init__(self, found: Findings) -> None:
        self.found = found
        self.postgres = found.postgres if isinstance(found.postgres, PostgresFindings) else None
        self.kafka = found.kafka if isinstance(found.kafka, KafkaFindings) else KafkaFindings(-1)
        self.times: dict[Coordinates, datetime] = {}
        for place, message in self.kafka.raw.items():
            self.times[place] = at_ms(message.timestamp)
        for _, change in self.kafka.changes:
            if change.origin:
                self.times.setdefault(_place(change.origin), at_ms(change.origin.timestamp))
        for _, clean in self.kafka.clean:
            self.times.setdefault(_place(clean.origin), at_ms(clean.origin.timestamp))
        for _, failed in self.kafka.failed:
            self.times.setdefault(_place(failed.origin), at_ms(failed.origin.timestamp))
        if self.postgres:
            for landed in self.postgres.landed:
                self.times.setdefault(landed.place, landed.received_at)
            for one in (self.postgres.row, self.postgres.tombstone):
                if one is not None and one.origin is not None:
                    self.times.setdefault(one.origin, at_ms(one.origin_ms))
            for letter in self.postgres.dead_letters:
                self.times.setdefault(letter.place, letter.failed_at)

    def all(self) -> Iterator[Sorted]:
        for place in self.times:
            yield from self._raw(place)
            yield from self._normalized(place)
            yield from self._stored(place)
        yield from self._changes()
        yield from self._written_by_the_api()

    def _event(
        self, at: datetime | None, stage: Stage, outcome: Outcome, place: Coordinates | None, **more: Any
    ) -> Sorted:
        message: TopicMessage | None = more.pop("message", None)
        own = (message.topic, message.partition, message.offset) if message else (None, None, None)
        when = at or (self.times.get(place) if place else None)
        order = (when.timestamp() if when else float("inf"), _ORDER.index(stage), own[2] or 0)
        return order, TraceEvent(at, stage, outcome, *own, *(place or (None, None, None)), **more)

    def _raw(self, place: Coordinates) -> Iterator[Sorted]:
        message = self.kafka.raw.get(place)
        landed = next((one for one in (self.postgres.landed if self.postgres else ()) if one.place == place), None)
        if message is not None:
            headers = dict(message.headers)
            problem = _text(headers.get(HEADER_PROBLEM))
            outcome: Outcome = "tombstone" if message.value is None else "unreadable" if problem else "published"
            kept = f"kept in {landed.table}" if landed else None
            yield self._event(
                at_ms(message.timestamp), "raw", outcome, place, message=message, detail=problem or kept,
                source=_text(headers.get(HEADER_SOURCE)), run=_text(headers.get(HEADER_RUN)),
            )  # fmt: skip
        elif landed is not None:
            detail = f"{landed.table}{' (a tombstone)' if landed.is_tombstone else ''}"
            yield self._event(
                landed.received_at, "landing", "landed", place, source=landed.source, run=landed.run, detail=detail
            )

    def _normalized(self, place: Coordinates) -> Iterator[Sorted]:
        letters = self._letters(place)
        for message, clean in self.kafka.clean:
            if _place(clean.origin) == place:
                unknown = f"fields that the dataset has not: {', '.join(clean.unknown)}" if clean.unknown else None
                again = f"reprocessed by job {clean.reprocess}" if clean.reprocess else None
                yield self._event(
                    at_ms(message.timestamp), "normalizer", "clean", place, message=message, detail=again or unknown
                )
        for letter in letters:
            yield self._of_letter(letter)
        if letters:
            return
        for message, failed in self.kafka.failed:
            if _place(failed.origin) == place:
                stage: Stage = "normalizer" if failed.stage == "normalizer" else "postgres"
                yield self._event(
                    at_ms(failed.failed_at), stage, "held" if failed.held else "failed", place, message=message,
                    detail=f"{failed.reason}: {failed.message}",
                )  # fmt: skip

    def _of_letter(self, letter: DeadLetter) -> Sorted:
        stages: dict[str, Stage] = {"normalizer": "normalizer", "postgres": "postgres"}
        outcome: Outcome = "held" if letter.state == "held" else "failed"
        detail = f"{letter.reason}: {letter.message}"
        if letter.waits and letter.state in OPEN_STATES:
            outcome = "pending"
            detail += f"; waits for {letter.blocked_by or 'another record'} to give it up"
        if letter.state != "open":
            detail += f"; {letter.state.replace('_', ' ')} since"
        stage = stages.get(letter.stage, "failure")
        return self._event(letter.failed_at, stage, outcome, letter.place, failure=letter.id, detail=detail)

    def _stored(self, place: Coordinates) -> Iterator[Sorted]:
        """The outcome of a record in the Postgres sink, as far as it can be told."""
        postgres = self.postgres
        row = postgres.row if postgres else None
        tombstone = postgres.tombstone if postgres else None
        versions = self._versions()
        if tombstone is not None and tombstone.origin == place:
            yield self._event(tombstone.deleted_at, "postgres", "deleted", place, version=tombstone.version)
            return
        if row is not None and row.origin == place:
            first = versions.get(row.version)
            if first is not None and first != place:
                same = f"it said what version {row.version} says already"
                yield self._event(None, "postgres", "no change", place, version=row.version, detail=same)
            else:
                yield self._event(row.updated_at or row.created_at, "postgres", "stored", place, version=row.version)
            return
        mine = [(message, change) for message, change in self.kafka.changes if _origin_of(change) == place]
        if mine:
            message, change = mine[0]
            if change.op == "deleted":
                yield self._event(at_ms(message.timestamp), "postgres", "deleted", place, version=change.version)
            elif versions.get(change.version) != place:
                yield self._event(at_ms(message.timestamp), "postgres", "no change", place, version=change.version)
            elif row is not None and row.version == change.version:
                yield self._event(row.updated_at or row.created_at, "postgres", "stored", place, version=row.version)
            else:
                yield self._event(at_ms(message.timestamp), "postgres", "changed", place, version=change.version)
            return
        yield from self._without_trace(place)

    def _without_trace(self, place: Coordinates) -> Iterator[Sorted]:
        """Of a record that is neither the row nor in a change event: on its way, or overtaken."""
        covered = self.found.covered.get(place)
        if covered is None or any(letter.stage in ("normalizer", "postgres") for letter in self._letters(place)):
            return
        is_clean = any(_place(clean.origin) == place for _, clean in self.kafka.clean)
        is_failed = any(_place(failed.origin) == place for _, failed in self.kafka.failed)
        if covered:
            if not is_failed:
                yield self._event(None, "postgres", "superseded", place, detail=self._why_superseded(place))
        elif is_clean or is_failed:
            yield self._event(None, "postgres", "on its way", place, detail="the Postgres sink has not taken it yet")
        elif place in self.kafka.raw:
            yield self._event(None, "normalizer", "on its way", place, detail="the normalizer has not taken it yet")

    def _why_superseded(self, place: Coordinates) -> str:
        row = self.postgres.row if self.postgres else None
        if self.found.dataset.first_wins and row and row.origin and row.origin != place:
            return "the first record of a key wins"
        changed = next((one for one in self.kafka.searched if one.topic.endswith(".changed")), None)
        if changed is None or changed.stopped or changed.kept_from:
            return "by a newer record of the key, at once or since: change events of then are gone"
        return "by a newer record of the key"

    def _changes(self) -> Iterator[Sorted]:
        told: dict[tuple[int, Coordinates | None], int] = {}
        for _, change in self.kafka.changes:
            told[change.version, _origin_of(change)] = told.get((change.version, _origin_of(change)), 0) + 1
        for message, change in self.kafka.changes:
            which = change.version, _origin_of(change)
            if (times := told.pop(which, 0)) == 0:
                continue
            detail = f"published {times} times" if times > 1 else None
            outcome: Outcome = "deleted" if change.op == "deleted" else "changed"
            yield self._event(
                at_ms(message.timestamp), "changed", outcome, which[1], message=message, version=change.version,
                detail=detail,
            )  # fmt: skip

    def _written_by_the_api(self) -> Iterator[Sorted]:
        postgres = self.postgres
        if postgres is None or self.found.dataset.written_by != "api":
            return
        if row := postgres.row:
            at = row.updated_at or row.created_at
            yield self._event(at, "postgres", "stored", None, version=row.version, detail="by a request to the API")
        if postgres.waiting_since:
            detail = "it waits in the outbox for the relay"
            yield self._event(
                postgres.waiting_since, "changed", "on its way", None, version=postgres.waiting_version, detail=detail
            )

    def _letters(self, place: Coordinates) -> list[DeadLetter]:
        return [one for one in (self.postgres.dead_letters if self.postgres else ()) if one.place == place]

    def _versions(self) -> dict[int, Coordinates | None]:
        """The raw record that made each version: the first whose change event tells of it."""
        found: dict[int, Coordinates | None] = {}
        for _, change in sorted(self.kafka.changes, key=lambda pair: pair[0].order):
            if change.op == "stored":
                found.setdefault(change.version, _origin_of(change))
        return found


def _events(found: Findings) -> list[Sorted]:
    """The events with what sorts them. One without a time comes behind those of the record's earlier stages."""
    every = list(_Events(found).all())
    times: dict[tuple[object, ...], list[tuple[int, float]]] = {}
    for order, event in every:
        if event.at is not None:
            times.setdefault(_raw_of(event), []).append((order[1], order[0]))
    placed = []
    for order, event in every:
        before = [at for stage, at in times.get(_raw_of(event), ()) if stage < order[1]]
        placed.append(((max(before), *order[1:]) if event.at is None and before else order, event))
    return placed


def _place(origin: Origin) -> Coordinates:
    return topic_of(origin.topic.partition("@")[0], origin.partition), real_partition(origin.partition), origin.offset


def _origin_of(change: ChangeEvent) -> Coordinates | None:
    return None if change.origin is None else _place(change.origin)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _stores(found: Findings) -> list[StoreAnswer]:
    answers, newest = [_postgres_answer(found)], None
    postgres = found.postgres
    if isinstance(postgres, PostgresFindings):
        stored = postgres.row or postgres.tombstone
        newest = stored.version if stored else None
    answers.append(_document_answer(found.elasticsearch, newest))
    answers.append(_cache_answer(found.redis, newest))
    answers.append(_api_answer(found.api))
    return answers


def _postgres_answer(found: Findings) -> StoreAnswer:
    postgres = found.postgres
    if isinstance(postgres, Away):
        return StoreAnswer("postgres", "away", detail=postgres.reason)
    if row := postgres.row:
        return StoreAnswer("postgres", "has it", row.version, f"table {found.dataset.table}", dict(row.record))
    if tombstone := postgres.tombstone:
        return StoreAnswer("postgres", "deleted", tombstone.version, "the delete is remembered")
    return StoreAnswer("postgres", "has not", detail=f"no row in {found.dataset.table}")


def _compared(version: int, newest: int | None) -> StoreState:
    if newest is None or version == newest:
        return "has it"
    return "older" if version < newest else "newer"


def _document_answer(found: DocumentFinding | Away, newest: int | None) -> StoreAnswer:
    if isinstance(found, Away):
        return _not_there("elasticsearch", found)
    if found.version is None:
        return StoreAnswer("elasticsearch", "has not", detail="no document")
    return StoreAnswer("elasticsearch", _compared(found.version, newest), found.version, "the document's version")


def _cache_answer(found: CacheFinding | Away, newest: int | None) -> StoreAnswer:
    if isinstance(found, Away):
        return _not_there("redis", found)
    left = "" if found.seconds_left is None else f", for {found.seconds_left:.0f} s more"
    floor = f"; floor {found.floor}" if found.floor is not None else ""
    if found.version is not None and found.holds_record:
        return StoreAnswer("redis", _compared(found.version, newest), found.version, f"cached{left}{floor}")
    if found.version is not None:
        return StoreAnswer("redis", "has not", detail=f"it is cached that there is none{left}{floor}")
    if found.floor is not None:
        return StoreAnswer("redis", "has not", detail=f"not cached; floor {found.floor}: nothing older may be{left}")
    return StoreAnswer("redis", "has not", detail="not cached, and no floor")


def _api_answer(found: ApiFinding | Away) -> StoreAnswer:
    if isinstance(found, Away):
        return _not_there("api", found)
    cache = f", X-Cache: {found.cache}" if found.cache else ""
    state: StoreState = "has it" if found.status == 200 else "has not" if found.status == 404 else "away"
    return StoreAnswer("api", state, detail=f"answers {found.status}{cache}", record=found.record)


def _not_there(store: Any, found: Away) -> StoreAnswer:
    if not found.reason:
        return StoreAnswer(store, "none", detail="this pipeline does without it")
    return StoreAnswer(store, "away", detail=found.reason)


def _notes(found: Findings, events: list[TraceEvent]) -> Iterator[str]:
    if isinstance(found.kafka, Away):
        yield f"Kafka does not answer, so nothing is seen of its topics: {found.kafka.reason}"
    else:
        for one in found.kafka.searched:
            if one.stopped:
                yield f"not all of {one.topic}/{one.partition} was searched: {one.stopped}"
        gone = [event for event in events if event.raw_topic and _is_gone(event, found.kafka)]
        for place in dict.fromkeys((event.raw_topic, event.raw_partition, event.raw_offset) for event in gone):
            yield f"the raw record {place[0]}/{place[1]} @ {place[2]} is gone from its topic: retention has taken it"
    if isinstance(found.postgres, Away):
        yield f"Postgres does not answer, so rows, dead letters and coverage are not seen: {found.postgres.reason}"
    else:
        yield from found.postgres.notes


def _is_gone(event: TraceEvent, kafka: KafkaFindings) -> bool:
    place = event.raw_topic or "", event.raw_partition or 0, event.raw_offset or 0
    if place in kafka.raw:
        return False
    ranges = {(one.topic, one.partition): one for one in kafka.searched}
    searched = ranges.get((place[0], place[1]))
    return "@" in place[0] or (searched is not None and place[2] < searched.kept_from)


def _summary(found: Findings, events: list[TraceEvent], stores: list[StoreAnswer], *, known: bool) -> str:
    name = f"{found.dataset.name} {found.key}"
    away = [one.store for one in stores if one.state == "away"]
    without = f" ({', '.join(_proper(one) for one in away)} did not answer)" if away else ""
    if not known:
        return f"Nothing is known of {name}{without}."
    postgres = stores[0]
    if postgres.state == "has it":
        text = f"{name} is stored as version {postgres.version}"
    elif postgres.state == "deleted":
        text = f"{name} was deleted as version {postgres.version}"
    elif postgres.state == "away":
        text = f"{name} is known, but Postgres does not answer"
    else:
        text = f"{name} is not stored"
    behind = [one for one in stores[1:3] if one.state in ("older", "newer") or _lacks(one, postgres)]
    if behind:
        text += "; " + ", ".join(_behind(one) for one in behind)
    if (newest := _newest_trouble(events)) is not None:
        text += f"; {newest}"
    return text + without + "."


def _lacks(one: StoreAnswer, postgres: StoreAnswer) -> bool:
    if one.store != "elasticsearch":
        return False
    return (one.state == "has not") == (postgres.state == "has it") and postgres.state in ("has it", "has not")


def _behind(one: StoreAnswer) -> str:
    if one.version is None:
        return f"{_proper(one.store)} has not"
    return f"{_proper(one.store)} has version {one.version}"


def _newest_trouble(events: list[TraceEvent]) -> str | None:
    """Of the newest raw record: that it failed, waits or is on its way."""
    about = [event for event in events if event.raw_offset is not None]
    if not about:
        return None
    came: dict[tuple[str | None, int | None, int | None], datetime] = {}
    for event in about:
        if event.at is not None:
            came[_raw_of(event)] = min(event.at, came.get(_raw_of(event), event.at))
    if not came:
        return None
    last = max(came, key=lambda place: (came[place], place[2]))
    mine = [event for event in about if _raw_of(event) == last]
    for event in reversed(mine):
        if event.outcome in ("failed", "held", "pending", "on its way"):
            words = {"failed": "failed", "held": "is held", "pending": "waits", "on its way": "is on its way"}
            reason = f": {event.detail}" if event.detail else ""
            return f"its newest record {words[event.outcome]}{reason}"
    return None


def _raw_of(event: TraceEvent) -> tuple[str | None, int | None, int | None]:
    return event.raw_topic, event.raw_partition, event.raw_offset


def _proper(store: str) -> str:
    return {"api": "the API"}.get(store, store.capitalize())
