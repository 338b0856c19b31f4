"""Messages are looked at as they lie in the topic, newest first, and a record is published by hand."""

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from api.endpoints.topics import MOST_READS, TopicReads
from api.problems import ProblemAnswer
from commands.command_line import build_app
from commands.topics import topics
from runtime.kafka.browse import Budget, bounds, browser, newest, partition_of
from runtime.kafka.topic_admin import admin_client
from runtime.settings import Settings
from services.topics.peek import Peeked, PeekQuestion, follow_topic, peek
from tests.integration.api_client import api_client
from tests.integration.sink_events import publish
from tests.processes import environment_of
from tests.transactions import aborted, committed, hung, transactional_producer
from tests.waiting import eventually


def looked(settings: Settings, **question: object) -> Peeked:
    asked = PeekQuestion("customers.raw", **question)  # type: ignore[arg-type]
    return peek(settings, admin_client(settings), asked)


def keys(found: Peeked) -> list[str | None]:
    return [message.key for message in found.messages]


def groups(settings: Settings) -> set[str]:
    listed = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers}).list_consumer_groups().result()
    return {group.group_id for group in listed.valid}


def test_the_newest_come_first_over_all_partitions_and_no_group_comes_to_be(pipeline_settings: Settings) -> None:
    settings = pipeline_settings
    for number in range(25):
        publish(settings, "customers.raw", (f"C{number}", b"{}"))
    found = looked(settings)
    assert keys(found) == [f"C{number}" for number in range(24, 14, -1)]
    assert [one.partition for one in found.looked] == list(range(settings.topic_partitions))
    assert keys(looked(settings, start="-3")) == ["C24", "C23", "C22"]
    assert keys(looked(settings, start="5", partition=0, limit=2)) == ["C6", "C5"]
    assert keys(looked(settings, start="25")) == []
    assert len(keys(looked(settings, start="1h", limit=100))) == 25
    [first, *_] = looked(settings, limit=1).messages
    assert keys(looked(settings, start=first.timestamp.isoformat())) == ["C24"]
    assert not [group for group in groups(settings) if group.startswith(settings.namespace)]


def test_only_what_is_committed_is_seen_through_markers_and_holes(pipeline_settings: Settings) -> None:
    settings, topic = pipeline_settings, pipeline_settings.named("customers.raw")
    producer = transactional_producer(settings)
    committed(producer, topic, [(b"A", b"{}")])
    for _ in range(5):
        aborted(producer, topic, [(b"X", b"{}"), (b"X", b"{}")])
    committed(producer, topic, [(b"B", b"{}")])
    with hung(settings, topic, [(b"H", b"{}")]):
        publish(settings, "customers.raw", ("AFTER", b"{}"))
        assert keys(looked(settings, limit=2)) == ["B", "A"]


def test_a_key_is_found_in_its_own_partition_in_whatever_form_it_is_given(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    run, file = CliRunner(env=environment_of(settings)), tmp_path / "customers.jsonl"
    file.write_text("\n".join(json.dumps({"customer_id": f"K{number}", "n": number}) for number in range(300)))
    pushed = run.invoke(build_app(["push"]), ["push", "customers", str(file)])
    assert pushed.exit_code == 0, pushed.output
    found = looked(settings, key="  K7 ")
    assert (found.key, keys(found), found.stopped) == ("K7", ["K7"], None)
    [one] = found.looked
    assert one.partition == partition_of(b"K7", settings.topic_partitions) == found.messages[0].partition
    assert (one.first, one.end) == (one.kept_from, one.kept_to)
    assert looked(settings, key="NOBODY").messages == []


def test_a_look_ends_at_its_bounds_and_says_what_it_left_out(pipeline_settings: Settings) -> None:
    settings = pipeline_settings
    publish(settings, "customers.raw", *((f"C{number}", b"x" * 10_000) for number in range(50)))
    within = bounds(admin_client(settings), [(settings.named("customers.raw"), 0)])
    with browser(settings) as consumer:
        look = newest(consumer, within, 10, Budget(30, 100_000), lambda message: message.key == b"nobody")
    assert look.messages == []
    assert look.stopped is not None
    assert look.stopped.startswith("100,000 bytes were read: offsets ")


def test_the_command_shows_messages_and_names_what_is_wrong(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = pipeline_settings
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)

    def told(*arguments: str, expect: int = 0) -> str:
        done = CliRunner().invoke(topics, ["peek", *arguments])
        assert done.exit_code == expect, done.output
        return done.output

    eventually(
        lambda: "is empty" in told("customers.raw", expect=1), what="the broker knows the topic that it has made"
    )
    publish(settings, "customers.raw", ("C1", b'{"customer_id":"C1"}'), ("C1", None), ("\x1b[31m", b"\xff"))
    text = told("customers.raw")
    assert "a tombstone: deletes the record of its key" in text
    assert '    "customer_id": "C1"\n' in text
    assert "\x1b" not in text
    assert "looked at offsets 0-2 of 0-2 in partition 0" in text
    found = json.loads(told("customers.raw", "--partition", "0", "--json"))
    assert [message["offset"] for message in found["messages"]] == [2, 1, 0]
    assert "did you mean customers.raw" in told("customer.raw", expect=2)
    assert "has the partitions 0 to" in told("customers.raw", "--partition", "99", expect=2)
    assert "expected e.g. 30m" in told("customers.raw", "--from", "soon", expect=2)


def test_what_comes_is_followed(pipeline_settings: Settings) -> None:
    settings = pipeline_settings
    publish(settings, "customers.raw", ("OLD", b"{}"))
    coming: Iterator[object] = follow_topic(settings, admin_client(settings), PeekQuestion("customers.raw", start="0"))
    assert getattr(next(coming), "key", None) == "OLD"
    publish(settings, "customers.raw", ("NEW", b"{}"))
    assert getattr(next(coming), "key", None) == "NEW"
    again: Iterator[object] = follow_topic(settings, admin_client(settings), PeekQuestion("customers.raw", start="-2"))
    assert [getattr(next(again), "key", None) for _ in range(2)] == ["OLD", "NEW"]
    publish(settings, "customers.raw", ("NEWEST", b"{}"))
    assert getattr(next(again), "key", None) == "NEWEST"


async def test_the_api_lists_topics_shows_messages_and_takes_one_record(pipeline_settings: Settings) -> None:
    settings = pipeline_settings
    record = {"customer_id": " C9 ", "first_name": "Ada", "n": 1}
    async with api_client(settings) as api:
        listed = (await api.get("/topics")).json()["data"]
        assert {topic["name"] for topic in listed if topic["takes_test_records"]} == {
            settings.named(f"{name}.raw") for name in ("customers", "orders", "records")
        }
        answer = await api.post("/topics/customers.raw/messages", json=record, params={"source": "hand"})
        assert answer.status_code == 201, answer.text
        published = answer.json()
        assert (published["key"], published["dataset"], published["source"]) == ("C9", "customers", "hand")
        assert uuid.UUID(published["run_id"])

        found = (await api.get("/topics/customers.raw/messages", params={"key": "C9"})).json()
        [message] = found["messages"]
        assert (message["partition"], message["offset"]) == (published["partition"], published["offset"])
        assert (message["kind"], message["value"]) == ("json", record)
        assert message["headers"]["headrace-source"] == "hand"
        assert message["headers"]["headrace-run"] == published["run_id"]

        for topic, status, words in (
            ("customers.clean", 409, "is written by the normalizer only"),
            ("users.changed", 409, "POST /users/ writes them"),
            ("failures", 409, "publish to a raw topic"),
            ("customer.raw", 404, "did you mean customers.raw"),
        ):
            refused = await api.post(f"/topics/{topic}/messages", json=record)
            assert (refused.status_code, words in refused.text) == (status, True), refused.text
        as_text = await api.post(
            "/topics/customers.raw/messages", content=b"{}", headers={"Content-Type": "text/plain"}
        )
        assert as_text.status_code == 415
        for body in (b"[{},{}]", b"text", b"", b"{"):
            headers = {"Content-Type": "application/json"}
            refused = await api.post("/topics/customers.raw/messages", content=body, headers=headers)
            assert (refused.status_code, refused.json()["type"]) == (422, "urn:headrace:problem:invalid-body"), body
        assert (await api.get("/topics/nope/messages")).status_code == 404
        for wrong in ({"from": "soon"}, {"limit": "1000"}, {"partition": "99"}, {"partition": "x"}, {"since": "1h"}):
            assert (await api.get("/topics/customers.raw/messages", params=wrong)).status_code == 400, wrong


async def test_the_api_bounds_the_number_of_looks_at_once() -> None:
    reads, begun, go = TopicReads(), threading.Semaphore(0), threading.Event()

    def look() -> bool:
        begun.release()
        return go.wait(60)

    under_way = [asyncio.create_task(reads.run(look)) for _ in range(MOST_READS)]
    try:
        for _ in under_way:
            assert await asyncio.to_thread(begun.acquire, timeout=60)
        with pytest.raises(ProblemAnswer) as refused:
            await reads.run(lambda: True)
        assert refused.value.status == 429
        under_way[0].cancel()  # its caller has gone; the look itself goes on, and still counts
        with pytest.raises(ProblemAnswer):
            await reads.run(lambda: True)
    finally:
        go.set()
    assert await under_way[1]
    assert await reads.run(lambda: True)


def test_a_topic_without_records_is_listed_with_its_partitions(pipeline_settings: Settings) -> None:
    def told() -> list[dict[str, object]]:
        done = CliRunner(env=environment_of(pipeline_settings)).invoke(topics, ["customers.raw", "--json"])
        rows: list[dict[str, object]] = json.loads(done.output)
        return rows if rows[0]["partitions"] else []

    [row] = eventually(told, what="the topic is there")
    assert (row["written"], row["kept"], row["takes_test_records"]) == (0, 0, True)
