"""A key is followed from its source to the API, whatever became of its records and whichever store is away."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from confluent_kafka import TopicPartition
from pydantic import SecretStr

from runtime.kafka.topic_admin import admin_client, end_offsets
from runtime.settings import Settings
from schemas.registry import dataset_named
from services.trace.model import StoreAnswer, Trace
from services.trace.trace import NoSuchKey, opened, trace
from tests.e2e.headrace import Headrace, headrace_of
from tests.e2e.stores import value
from tests.integration.api_client import closed_port
from tests.processes import WORKERS, Pipeline
from tests.waiting import eventually


@pytest.fixture(scope="module")
def running(shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with Pipeline(shared_pipeline_settings, tmp_path_factory.mktemp("logs"), (*WORKERS, "relay", "api")) as pipeline:
        yield pipeline


@pytest.fixture
def headrace(running: Pipeline) -> Headrace:
    return headrace_of(running.settings, API_URL=running["api"].url)


def followed(running: Pipeline, key: str, dataset: str = "customers", **changed: Any) -> Trace:
    settings = running.settings.model_copy(update={"api_url": running["api"].url} | changed)

    async def follow() -> Trace:
        async with opened(settings) as stores:
            return await trace(stores, dataset_named(dataset), key)

    return asyncio.run(follow())


def followed_until(
    running: Pipeline,
    key: str,
    condition: Callable[[Trace], bool],
    what: str,
    dataset: str = "customers",
    **changed: Any,
) -> Trace:
    """The first trace of which the condition holds."""
    found: list[Trace] = []

    def holds() -> bool:
        found[:] = [followed(running, key, dataset, **changed)]
        return condition(found[0])

    eventually(holds, what=what)
    return found[0]


def settled(running: Pipeline, key: str) -> Trace:
    """The trace once Elasticsearch has the version of Postgres. It is waited for without the API, whose answer to the
    first look would be in Redis for the second.
    """
    followed_until(
        running,
        key,
        lambda one: one.stores[0].version == one.stores[1].version,
        f"the document of {key} is as its row",
        api_url=f"http://127.0.0.1:{closed_port()}",
    )
    return followed(running, key)


def push(headrace: Headrace, *records: dict[str, Any] | str) -> None:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    done = headrace("push", "customers", "-", "--wait", "--source", "shop", stdin="\n".join(lines) + "\n")
    assert done.returncode in (0, 1), done.stderr


def customer(key: str, **fields: Any) -> dict[str, Any]:
    return {"customer_id": key, "first_name": "Ada", "last_name": "L", "email": f"{key.lower()}@example.org"} | fields


def steps(found: Trace) -> list[tuple[str, str]]:
    return [(event.stage, event.outcome) for event in found.events]


def states(found: Trace) -> dict[str, str]:
    return {one.store: one.state for one in found.stores}


def store(found: Trace, name: str) -> StoreAnswer:
    return next(one for one in found.stores if one.store == name)


STORED = [("raw", "published"), ("normalizer", "clean"), ("postgres", "stored"), ("changed", "changed")]


def test_a_stored_record_is_followed_through_every_stage_and_store(running: Pipeline, headrace: Headrace) -> None:
    push(headrace, customer("T1"))
    found = settled(running, "  T1 ")
    assert sorted(steps(found)) == sorted(STORED)
    assert (found.key, found.asked, found.known) == ("T1", "  T1 ", True)
    assert states(found) == {"postgres": "has it", "elasticsearch": "has it", "redis": "has not", "api": "has it"}
    first = found.events[0]
    assert (first.stage, first.source, first.raw_topic) == ("raw", "shop", running.settings.named("customers.raw"))
    assert first.run is not None
    assert {event.raw_offset for event in found.events} == {first.offset}
    assert {event.version for event in found.events if event.version} == {found.stores[0].version}
    assert all(event.at is not None for event in found.events)
    assert found.notes == []
    again = followed(running, "T1")
    assert store(again, "redis").state == "has it", "the API's answer before was cached"
    assert store(again, "redis").version == found.stores[0].version
    with httpx.Client(base_url=running["api"].url, timeout=30) as api:
        answer = api.get("/trace/customers/T1").json()
        assert [(event["stage"], event["outcome"]) for event in answer["events"]] == steps(found)
        assert api.get("/trace/nobody/T1").status_code == 404
        assert api.get("/trace/records/T1").status_code == 400, "a key of records has two parts"
        assert api.get("/trace/records/a:b%2Fc").json()["known"] is False
    shown = headrace("trace", "t1", "--dataset", "customers")
    assert shown.returncode == 1, "keys keep their case"
    shown = headrace("trace", "T1")
    assert shown.returncode == 0, shown.stderr
    assert f"customers T1 is stored as version {found.stores[0].version}." in shown.stdout
    lines = json.loads(headrace("trace", "T1", "--json").stdout)
    assert [one["dataset"] for one in lines] == ["customers"]


def test_an_update_an_equal_record_and_a_delete_are_told_apart(running: Pipeline, headrace: Headrace) -> None:
    push(headrace, customer("T2"))
    push(headrace, customer("T2", first_name="Grace"))
    found = settled(running, "T2")
    assert ("postgres", "changed") in steps(found)
    assert ("postgres", "stored") in steps(found)
    push(headrace, customer("T2", first_name="Grace"))
    found = settled(running, "T2")
    assert [outcome for stage, outcome in steps(found) if stage == "postgres"] == ["changed", "stored", "no change"]
    deleted = headrace("push", "customers", "-", "--delete", "--wait", stdin="T2\n")
    assert deleted.returncode == 0, deleted.stderr
    found = followed_until(running, "T2", lambda one: states(one)["elasticsearch"] == "has not", "the document is gone")
    last = {("raw", "tombstone"), ("normalizer", "clean"), ("postgres", "deleted"), ("changed", "deleted")}
    assert set(steps(found)[-5:]) >= last, "the row's time and that of its event may be in either order"
    assert states(found)["postgres"] == "deleted"
    assert "was deleted as version" in found.summary
    assert states(found)["api"] == "has not"


def test_a_failed_record_and_an_overtaken_one_are_told(running: Pipeline, headrace: Headrace) -> None:
    push(headrace, customer("T3", email="nobody"))
    found = followed(running, "T3")
    assert steps(found) == [("raw", "published"), ("normalizer", "failed")]
    [failed] = [event for event in found.events if event.outcome == "failed"]
    assert failed.failure == value(running.settings, "SELECT id FROM ingest_failures WHERE key = 'T3'")
    assert "is not an e-mail address" in (failed.detail or "")
    assert found.summary.startswith("customers T3 is not stored; its newest record failed: ")
    push(headrace, customer("T4"), customer("T4", last_name="Byron"))
    found = settled(running, "T4")
    outcomes = [outcome for stage, outcome in steps(found) if stage == "postgres"]
    assert sorted(outcomes) in (["stored", "superseded"], ["changed", "stored"]), "one batch, or two"


def test_who_wants_anothers_address_is_said_to_wait(running: Pipeline, headrace: Headrace) -> None:
    push(headrace, customer("T5", email="both@example.org"))
    push(headrace, customer("T6", email="both@example.org"))
    found = followed(running, "T6")
    [waiting] = [event for event in found.events if event.outcome == "pending"]
    assert "waits for T5 to give it up" in (waiting.detail or "")
    assert "its newest record waits" in found.summary


def test_a_user_has_no_raw_record(running: Pipeline) -> None:
    with httpx.Client(base_url=running["api"].url, timeout=30) as api:
        made = api.post("/users/", json={"email": "Trace@Example.org", "name": "Trace", "role": "admin"})
        assert made.status_code in (200, 201), made.text

    found = followed_until(
        running,
        "trace@example.org",
        lambda one: ("changed", "changed") in steps(one),
        "the relay has published the change",
        "users",
    )
    assert ("postgres", "stored") in steps(found)
    assert {event.raw_offset for event in found.events} == {None}


def test_each_store_that_is_away_is_a_line_and_no_error(running: Pipeline, headrace: Headrace) -> None:
    push(headrace, customer("T7"))
    settled(running, "T7")
    port = closed_port()
    found = followed(running, "T7", elasticsearch_url=f"http://127.0.0.1:{port}", api_url=f"http://127.0.0.1:{port}")
    assert (states(found)["elasticsearch"], states(found)["api"]) == ("away", "away")
    assert "(Elasticsearch, the API did not answer)" in found.summary
    found = followed(running, "T7", redis_url=SecretStr(f"redis://127.0.0.1:{port}/0"))
    assert states(found)["redis"] == "away"
    found = followed(running, "T7", redis_url=None, elasticsearch_url=None)
    assert (states(found)["redis"], states(found)["elasticsearch"]) == ("none", "none")
    found = followed(running, "T7", database_url=SecretStr(f"postgresql://nobody@127.0.0.1:{port}/none"))
    assert states(found)["postgres"] == "away"
    assert ("changed", "changed") in steps(found), "the topics tell of it all the same"
    found = followed(running, "T7", kafka_bootstrap_servers=f"127.0.0.1:{port}")
    assert any(note.startswith("Kafka does not answer") for note in found.notes)
    assert states(found)["postgres"] == "has it"
    assert found.partition is None


def edge(overview: dict[str, Any], source: str, target: str) -> dict[str, Any]:
    return next(one for one in overview["edges"] if (one["source"], one["target"]) == (source, target))


def test_the_overview_tells_of_the_whole_pipeline_in_one_sentence(running: Pipeline, headrace: Headrace) -> None:
    push(headrace, customer("T9"))
    settled(running, "T9")
    with httpx.Client(base_url=running["api"].url, timeout=30) as api:

        def well() -> dict[str, Any]:
            found: dict[str, Any] = api.get("/overview").json()
            assert found["state"] == "ok", found["troubles"]
            assert found["audit"]["verdict"] == "complete", found["audit"]
            # The normalizer commits once a second.
            assert edge(found, "topic:customers.raw", "agent:normalizer")["waiting"] == 0
            return found

        found = eventually(well, what="all is well")
        assert found["diagnosis"].startswith("All is well: ")
        assert found["latency"]["records"] > 0
        assert found["latency"]["median"] > 0
        assert found["dead_letters"]["open"] == value(
            running.settings, "SELECT count(*) FROM ingest_failures WHERE state = 'open'"
        )
        assert edge(found, "sink:sink-elasticsearch", "store:elasticsearch")


def test_nothing_known_is_said_plainly(running: Pipeline, headrace: Headrace) -> None:
    found = followed(running, "NOBODY")
    assert (found.known, found.events) == (False, [])
    assert found.summary == "Nothing is known of customers NOBODY."
    shown = headrace("trace", "NOBODY", "--dataset", "customers")
    assert (shown.returncode, "Nothing is known of customers NOBODY." in shown.stdout) == (1, True)
    assert headrace("trace", "X", "--dataset", "nope").returncode == 2
    with pytest.raises(NoSuchKey):
        followed(running, "no colon", "records")


def test_a_record_that_retention_has_taken_is_told_from_what_is_kept(running: Pipeline, headrace: Headrace) -> None:
    settings = running.settings
    push(headrace, customer("T8"))
    before = settled(running, "T8")
    topics = [settings.named(f"customers.{kind}") for kind in ("raw", "clean")]
    admin = admin_client(settings)
    ends = {TopicPartition(p.topic, p.partition, end): end for p, end in end_offsets(settings, topics).items()}
    eventually(
        lambda: value(settings, "SELECT count(*) FROM raw_api_data WHERE key = 'T8'"), what="the record has landed"
    )
    for future in admin.delete_records(list(ends)).values():
        future.result()
    found = followed(running, "T8")
    assert ("landing", "landed") in steps(found)
    assert [event.version for event in found.events if event.outcome == "stored"] == [before.stores[0].version]
    assert any("retention has taken it" in note for note in found.notes)
