"""The overview says the worst first, by pure rules, and shows the whole flow."""

import datetime
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from monitoring.verdicts import Verdict
from monitoring.view import GroupView, PartitionView, SystemLag, TopicView
from monitoring.watching import LagWatch
from runtime.settings import Settings
from schemas.events import ChangeEvent, Origin
from schemas.sinks import SINKS
from schemas.topics import all_topics
from services.overview.assemble import Read, overview
from services.overview.model import OpenLetters, Overview
from services.overview.reads import Covered, LastRun, Outbox, latency_of
from services.overview.service import Overviews

NOW = datetime.datetime(2026, 11, 29, 22, 0, tzinfo=datetime.UTC)
WELL = dict.fromkeys(("postgres", "kafka", "redis", "elasticsearch"))


def ago(seconds: float) -> datetime.datetime:
    return NOW - datetime.timedelta(seconds=seconds)


def figures(**changed: Any) -> dict[str, Any]:
    return {
        "lag": 0, "waiting": 0, "exact": True, "seconds": 0.0, "seconds_by": "record", "rate_in": 5.0, "rate_out": 5.0,
        "trend": 0.0, "drain_seconds": 0.0, "verdict": Verdict.OK, "reason": "",
    } | changed  # fmt: skip


def system(**by_group_and_topic: dict[str, Any]) -> SystemLag:
    """All of our groups, well but for what is given: `{"sink-postgres customers.clean": figures}`."""
    groups = []
    names = ["normalizer", *(sink.group for sink in SINKS)]
    for name in names:
        topics = []
        for topic in all_topics():
            if name in topic.read_by:
                said = figures(**by_group_and_topic.get(f"{name} {topic.name}", {}))
                place: dict[str, Any] = {one.name: None for one in fields(PartitionView) if one.name not in said}
                place |= {"partition": 0, "begin": 0, "committed": 100, "end": 100}
                topics.append(TopicView(**said, topic=topic.name, partitions=(PartitionView(**said, **place),)))
        worst = max(topics, key=lambda one: one.waiting)
        said = figures(waiting=worst.waiting, verdict=worst.verdict, reason=worst.reason)
        groups.append(GroupView(**said, group=name, ours=True, state="Stable", topics=tuple(topics), gone=()))
    waiting = sum(group.waiting for group in groups)
    whole: dict[str, Any] = {"at": 1.0, "window_seconds": 600.0, "monitored": True, "away_since": None}
    return SystemLag(**figures(waiting=waiting, seconds=3.0), **whole, others_verdict=Verdict.OK, groups=tuple(groups))


def seen(**changed: Any) -> Overview:
    covered = [Covered(f"{name}.raw", 0, 100, 1, 100) for name in ("customers", "orders", "records")]
    read: dict[str, Any] = {
        "settings": Settings(), "at": NOW, "stores": WELL, "lag": system(), "letters": OpenLetters(0, 0, None),
        "covered": covered, "outbox": Outbox(0, None),
    }  # fmt: skip
    return overview(Read(**(read | changed)))


STOPPED = {
    "waiting": 812, "lag": 812, "seconds": 94.0, "verdict": Verdict.STOP, "drain_seconds": None,
    "reason": "812 wait, committed nothing for 94 s",
}  # fmt: skip


def test_all_is_well_says_what_comes_what_waits_and_what_is_open() -> None:
    one = seen(letters=OpenLetters(260, 0, ago(10_800)))
    assert (one.state, one.troubles) == ("ok", [])
    assert one.diagnosis == (
        "All is well: 15.0 records/s come in, nothing waits, 260 dead letters are open, the oldest for 3.0 h."
    )
    assert one.audit.verdict == "complete"


def test_a_stopped_sink_is_named_with_its_dataset_how_far_it_is_behind_and_what_it_would_take() -> None:
    lag = system(**{"sink-postgres customers.clean": STOPPED})
    told = "customers: the Postgres sink has stopped, 812 behind, the oldest for 94 s"
    assert seen(lag=lag).diagnosis == f"{told}."
    one = seen(lag=lag, peaks={("sink-postgres", "customers.clean"): 270.7})
    assert one.diagnosis == f"{told}; catching up would take 3 s."
    assert one.state == "bad"
    edge = next(edge for edge in one.edges if edge.source == "topic:customers.clean" and edge.waiting)
    assert (edge.target, edge.state, edge.waiting, edge.seconds, edge.verdict) == (
        "sink:sink-postgres", "bad", 812, 94.0, "STOP"
    )  # fmt: skip


def test_the_worst_comes_first() -> None:
    slow = STOPPED | {"verdict": Verdict.WARN, "waiting": 9_000, "drain_seconds": 240.0, "exact": False}
    lag = system(**{"sink-redis orders.changed": STOPPED, "normalizer records.raw": slow})
    slowly = "records: the normalizer falls behind, at most 9,000 behind, the oldest for 94 s; "
    slowly += "it will have caught up in 4 min."
    one = seen(lag=lag, letters=OpenLetters(0, 3, ago(60)))
    assert one.troubles == [
        "orders: the Redis sink has stopped, 812 behind, the oldest for 94 s.",
        slowly,
        "3 records are held, since nearly all of their source failed: `headrace failures list`.",
    ]
    down = WELL | {"postgres": "refused", "elasticsearch": "no answer"}
    one = seen(lag=lag, stores=down, letters=None, covered=None, outbox=None)
    assert one.diagnosis.startswith("Postgres does not answer (refused): records wait in Kafka")
    assert one.troubles[-1].startswith("Elasticsearch does not answer (no answer): searches are answered by Postgres")
    assert one.audit.verdict == "unknown"


def test_a_failed_run_and_a_relay_that_stands_are_told() -> None:
    failed = LastRun("titanic", "records", "failed", ago(60), ago(50), None, "the file is gone.\nmore")
    well = LastRun("shop", "customers", "success", ago(60), ago(50), 10_000, None)
    one = seen(runs=[failed, well], outbox=Outbox(4, ago(40)))
    assert one.troubles == [
        "The relay is behind: 4 changes wait, the oldest for 40 s.",
        "The last run of titanic failed: the file is gone.",
    ]
    by_id = {node.id: node for node in one.nodes}
    assert by_id["source:shop"].detail == "success, 10,000 published, 2026-11-29 21:59:10 UTC"
    assert (by_id["source:titanic"].state, by_id["relay:relay"].state) == ("warn", "bad")


@pytest.mark.parametrize(
    ("covered", "verdict", "in_flight"),
    [
        (Covered("customers.raw", 0, 90, 1, 90), "in flight", 10),
        (Covered("customers.raw", 0, 100, 3, 80), "gaps", 0),
        (Covered("customers.raw", 0, 100, 1, 100), "complete", 0),
    ],
)
def test_the_sketch_of_the_audit_compares_coverage_with_the_ends(
    covered: Covered, verdict: str, in_flight: int
) -> None:
    others = [Covered(f"{name}.raw", 0, 100, 1, 100) for name in ("orders", "records")]
    one = seen(covered=[covered, *others])
    assert (one.audit.verdict, one.audit.in_flight) == (verdict, in_flight)
    assert (one.state == "warn") == (verdict == "gaps")


def test_the_flow_has_every_topic_group_and_store_and_no_edge_leads_nowhere() -> None:
    one = seen()
    ids = {node.id for node in one.nodes}
    assert {f"topic:{topic.name}" for topic in all_topics()} <= ids
    assert {f"sink:{sink.group}" for sink in SINKS} | {"agent:normalizer", "relay:relay"} <= ids
    assert {"store:postgres", "store:elasticsearch", "store:redis"} <= ids
    assert {end for edge in one.edges for end in (edge.source, edge.target)} <= ids
    without = seen(settings=Settings(redis_url=None, elasticsearch_url=None))
    assert not {"sink:sink-redis", "store:redis", "store:elasticsearch"} & {node.id for node in without.nodes}
    assert all(node.state in ("unknown", "ok") for node in seen(lag=None).nodes)
    namespaced = Settings(headrace_namespace="t1")
    assert {node.name for node in seen(settings=namespaced, lag=None).nodes} >= {"t1.customers.raw"}


def test_latency_is_of_stored_rows_only_and_of_each_once() -> None:
    def change(version: int, seconds: float, **more: Any) -> bytes:
        stored = datetime.datetime.fromtimestamp(1000 + seconds, datetime.UTC)
        row = {"customer_id": "C", "created_at": stored, "updated_at": None}
        event = ChangeEvent("C", "stored", version, Origin("customers.raw", 0, version, 1_000_000), row_of(row))
        return msgspec.json.encode(msgspec.structs.replace(event, **more))

    def row_of(row: dict[str, Any]) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(row))

    found = latency_of([
        change(1, 0.05), change(1, 0.05), change(2, 0.2), change(3, 4.0), change(4, -60.0), b"hostile",
        change(5, 1.0, op="deleted", data=msgspec.Raw(b"null")), change(6, 1.0, origin=None),
    ])  # fmt: skip
    assert (found.median, found.slowest, found.records) == (0.2, 4.0, 3)
    assert found.newest_at == datetime.datetime.fromtimestamp(1004, datetime.UTC)
    assert latency_of([]).median is None


async def test_peaks_are_kept_of_our_groups_only() -> None:
    def group(name: str, *, ours: bool) -> Any:
        return SimpleNamespace(group=name, ours=ours, topics=[SimpleNamespace(topic="t", rate_out=3.0)])

    async def view() -> Any:
        return SimpleNamespace(groups=[group("sink-redis", ours=True), group("console-consumer-12345", ours=False)])

    nothing: Any = None
    overviews = Overviews(Settings(), nothing, nothing, cast("LagWatch", SimpleNamespace(view=view)), nothing)
    await overviews._read_lag({})
    assert overviews._peaks == {("sink-redis", "t"): 3.0}
