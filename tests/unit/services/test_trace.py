"""The trace of a key is put together from what the stores said, by pure rules."""

import datetime
from typing import Any

import msgspec

from commands.trace import WIDTH, lines_of
from runtime.kafka.browse import TopicMessage
from schemas.events import ChangeEvent, CleanRecord, FailedRecord, Origin
from schemas.registry import dataset_named
from services.trace.assemble import assemble
from services.trace.findings import (
    ApiFinding,
    Away,
    CacheFinding,
    DeadLetter,
    DocumentFinding,
    Findings,
    KafkaFindings,
    Landed,
    PostgresFindings,
    StoredRow,
    Tombstone,
)
from services.trace.model import SearchedTopic, Trace

CUSTOMERS = dataset_named("customers")
RAW, CLEAN, CHANGED = "customers.raw", "customers.clean", "customers.changed"
BEGIN = 1_764_400_000_000


def at(ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp((BEGIN + ms) / 1000, datetime.UTC)


def place(offset: int) -> tuple[str, int, int]:
    return RAW, 2, offset


def origin(offset: int) -> Origin:
    return Origin(RAW, 2, offset, BEGIN + offset)


def raw(offset: int, value: bytes | None = b"{}") -> TopicMessage:
    headers = (("headrace-source", b"shop"), ("headrace-run", b"d26b936c-4def-45bc-bb65-a9129dcd7108"))
    return TopicMessage(RAW, 2, offset, BEGIN + offset, b"C1", value, headers)


def clean(offset: int, at_offset: int) -> tuple[TopicMessage, CleanRecord]:
    message = TopicMessage(CLEAN, 2, at_offset, BEGIN + offset + 10, b"C1", b"")
    return message, CleanRecord("C1", origin(offset), msgspec.Raw(b"{}"))


def change(offset: int, version: int, at_offset: int, op: Any = "stored") -> tuple[TopicMessage, ChangeEvent]:
    message = TopicMessage(CHANGED, 2, at_offset, BEGIN + offset + 20, b"C1", b"")
    return message, ChangeEvent("C1", op, version, origin(offset))


def searched(topic: str = RAW, kept_from: int = 0) -> SearchedTopic:
    return SearchedTopic(topic, 2, kept_from, 5000, kept_from, None)


def row(offset: int, version: int, stored: int | None = None) -> StoredRow:
    """The row that the record at this offset left, its content stored with that one or an earlier record."""
    return StoredRow(version, at(15), at((stored or offset) + 15), {"customer_id": "C1"}, place(offset), BEGIN + offset)


def found(postgres: PostgresFindings | Away, kafka: KafkaFindings | Away, **more: Any) -> Findings:
    said: dict[str, Any] = {
        "elasticsearch": DocumentFinding(None),
        "redis": CacheFinding(None, None, holds_record=False, seconds_left=None),
        "api": ApiFinding(404, "miss", None, None),
    }
    return Findings(CUSTOMERS, "C1", " C1", postgres, kafka, **(said | more))


def steps(trace: Trace) -> list[tuple[str, str, int | None, int | None]]:
    return [(event.stage, event.outcome, event.raw_offset, event.version) for event in trace.events]


def kafka(*offsets: int, **more: Any) -> KafkaFindings:
    ready: dict[str, Any] = {"searched": [searched(), searched(CHANGED)]}
    return KafkaFindings(2, {place(offset): raw(offset) for offset in offsets}, **(ready | more))


def test_each_record_is_followed_to_what_became_of_it_in_order_of_time() -> None:
    three = kafka(
        100, 200, 300, 400,
        clean=[clean(100, 1), clean(200, 2), clean(300, 3), clean(400, 4)],
        changes=[change(100, 7, 1), change(100, 7, 2), change(200, 8, 3), change(300, 8, 4)],
    )  # fmt: skip
    covered = {place(100): True, place(200): True, place(300): True, place(400): False}
    trace = assemble(
        found(PostgresFindings(row=row(300, 8, 200)), three, covered=covered, elasticsearch=DocumentFinding(7))
    )
    assert steps(trace) == [
        ("raw", "published", 100, None), ("normalizer", "clean", 100, None),
        ("postgres", "changed", 100, 7), ("changed", "changed", 100, 7),
        ("raw", "published", 200, None), ("normalizer", "clean", 200, None),
        ("postgres", "stored", 200, 8), ("changed", "changed", 200, 8),
        ("raw", "published", 300, None), ("normalizer", "clean", 300, None),
        ("postgres", "no change", 300, 8), ("changed", "changed", 300, 8),
        ("raw", "published", 400, None), ("normalizer", "clean", 400, None), ("postgres", "on its way", 400, None),
    ]  # fmt: skip
    assert next(event.detail for event in trace.events if event.stage == "changed") == "published 2 times"
    assert trace.summary == (
        "customers C1 is stored as version 8; Elasticsearch has version 7; its newest record is on its way: "
        "the Postgres sink has not taken it yet."
    )


def test_what_was_overtaken_and_what_was_deleted_are_told() -> None:
    postgres = PostgresFindings(tombstone=Tombstone(9, at(320), place(300), BEGIN + 300))
    two = kafka(100, clean=[clean(100, 1)], changes=[change(300, 9, 1, "deleted")])
    two.raw[place(300)] = raw(300, None)
    trace = assemble(found(postgres, two, covered={place(100): True, place(300): True}))
    assert steps(trace) == [
        ("raw", "published", 100, None), ("normalizer", "clean", 100, None), ("postgres", "superseded", 100, None),
        ("raw", "tombstone", 300, None), ("postgres", "deleted", 300, 9), ("changed", "deleted", 300, 9),
    ]  # fmt: skip
    assert trace.summary == "customers C1 was deleted as version 9."
    assert [one.state for one in trace.stores] == ["deleted", "has not", "has not", "has not"]


def test_a_store_that_still_has_what_was_deleted_is_told() -> None:
    postgres = PostgresFindings(tombstone=Tombstone(9, at(320), place(300), BEGIN + 300))
    cached = CacheFinding(8, None, holds_record=True, seconds_left=None)
    trace = assemble(found(postgres, kafka(300), elasticsearch=DocumentFinding(7), redis=cached))
    assert [one.state for one in trace.stores] == ["deleted", "older", "older", "has not"]
    assert trace.summary == ("customers C1 was deleted as version 9; Elasticsearch has version 7, Redis has version 8.")


def letter(**more: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "id": 17, "place": place(100), "stage": "normalizer", "reason": "email_form", "message": "no address",
        "state": "open", "failed_at": at(110), "source": "shop", "run": None, "waits": False, "blocked_by": None,
    }  # fmt: skip
    return DeadLetter(**(fields | more))


def test_a_dead_letter_says_why_and_its_state_and_is_told_once() -> None:
    failed = FailedRecord("customers", "normalizer", "email_form", "no address", origin(100), BEGIN + 110)
    message = TopicMessage("failures", 2, 5, BEGIN + 110, b"C1", b"")
    trace = assemble(found(PostgresFindings(dead_letters=[letter()]), kafka(100, failed=[(message, failed)])))
    assert steps(trace) == [("raw", "published", 100, None), ("normalizer", "failed", 100, None)]
    assert (trace.events[1].failure, trace.events[1].detail) == (17, "email_form: no address")
    assert trace.summary == "customers C1 is not stored; its newest record failed: email_form: no address."
    trace = assemble(found(Away("gone"), kafka(100, failed=[(message, failed)])))
    assert trace.events[1].detail == "email_form: no address"
    waiting = letter(stage="postgres", waits=True, blocked_by="C2", reason="email_conflict")
    trace = assemble(found(PostgresFindings(dead_letters=[waiting]), kafka(100, clean=[clean(100, 1)])))
    assert steps(trace)[-1][:2] == ("postgres", "pending")
    assert "waits for C2 to give it up" in trace.summary
    settled = letter(state="resolved", waits=True)
    trace = assemble(found(PostgresFindings(dead_letters=[settled]), kafka(100)))
    assert (trace.events[-1].outcome, "resolved since" in (trace.events[-1].detail or "")) == ("failed", True)


def test_a_record_that_is_gone_from_its_topic_is_told_from_where_it_landed() -> None:
    landed = Landed(place(100), "raw_api_data", "shop", None, at(100), is_tombstone=False)
    trace = assemble(
        found(PostgresFindings(row=row(100, 7), landed=[landed]), kafka(searched=[searched(kept_from=4000)]))
    )
    assert steps(trace) == [("landing", "landed", 100, None), ("postgres", "stored", 100, 7)]
    assert trace.notes == ["the raw record customers.raw/2 @ 100 is gone from its topic: retention has taken it"]


def test_a_record_of_an_ended_epoch_is_named_by_it() -> None:
    old = ("customers.raw@0", 2, 100)
    trace = assemble(found(PostgresFindings(row=StoredRow(7, at(1), None, {}, old, BEGIN)), kafka()))
    assert [(event.raw_topic, event.raw_partition) for event in trace.events] == [("customers.raw@0", 2)]
    assert "gone from its topic" in trace.notes[0]


def test_nobody_knowing_anything_is_not_the_same_as_nobody_answering() -> None:
    trace = assemble(found(PostgresFindings(), kafka()))
    assert (trace.known, trace.summary) == (False, "Nothing is known of customers C1.")
    away = Away("refused")
    trace = assemble(found(away, away, elasticsearch=away, redis=Away(""), api=away))
    assert (trace.known, trace.partition) == (False, None)
    assert trace.summary == "Nothing is known of customers C1 (Postgres, Elasticsearch, the API did not answer)."
    assert [one.state for one in trace.stores] == ["away", "away", "none", "away"]
    assert len(trace.notes) == 2


def test_the_states_of_the_cache_are_told_apart() -> None:
    def cache(*said: Any) -> tuple[str, str | None]:
        finding = CacheFinding(said[0], said[1], holds_record=said[2], seconds_left=said[3])
        one = assemble(found(PostgresFindings(row=row(100, 7)), kafka(), redis=finding)).stores[2]
        return one.state, one.detail

    assert cache(7, None, True, 12.4) == ("has it", "cached, for 12 s more")
    assert cache(6, None, True, None) == ("older", "cached")
    assert cache(0, 7, False, 3.0) == ("has not", "it is cached that there is none, for 3 s more; floor 7")
    assert cache(None, 7, False, 3.0) == ("has not", "not cached; floor 7: nothing older may be, for 3 s more")
    assert cache(None, None, False, None) == ("has not", "not cached, and no floor")


def test_a_trace_fits_80_columns_and_nothing_in_it_reaches_the_terminal_raw() -> None:
    evil = letter(message="\x1b[2J" + "long " * 50)
    trace = assemble(
        found(
            PostgresFindings(row=row(100, 1_234_567), dead_letters=[evil]),
            kafka(100, clean=[clean(100, 1_234_567)], changes=[change(100, 1_234_567, 1_234_567)]),
            elasticsearch=DocumentFinding(1_234_567),
            redis=CacheFinding(1_234_567, 1_234_567, holds_record=True, seconds_left=299.0),
            api=ApiFinding(200, "hit", None, {}),
        )
    )
    lines = [line for one in lines_of(trace) for line in one.plain.splitlines()][1:]
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in "".join(lines)
    assert "  07:06:40.100  raw         published            customers.raw/2 @ 100" in lines
