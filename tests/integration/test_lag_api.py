"""The lag over HTTP: the system, a group, its history, and the live stream of a process."""

import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import api.endpoints.lag
from monitoring.verdicts import Verdict
from monitoring.view import SystemLag
from runtime.settings import Settings
from services.monitor import Listener, Monitor
from tests.consumer_groups import commit, produce
from tests.integration.api_client import api_client, closed_port
from tests.processes import Process


@asynccontextmanager
async def monitor_of(settings: Settings, *listeners: Listener) -> AsyncIterator[Monitor]:
    """A monitor that is closed in the end, and samples when it is told to."""
    monitor = Monitor(settings, listeners)
    try:
        yield monitor
    finally:
        await monitor.close()


async def test_the_system_is_told_with_every_group_worst_first(pipeline_settings: Settings) -> None:
    named = pipeline_settings.named
    produce(pipeline_settings, named("orders.raw"), 0, 4)
    commit(pipeline_settings, named("normalizer"), {(named("orders.raw"), 0): 1})
    commit(pipeline_settings, named("a-stranger"), {(named("orders.raw"), 0): 2})
    async with api_client(pipeline_settings) as client:
        body = (await client.get("/lag")).json()
        group = (await client.get("/lag/normalizer")).json()
        stranger = await client.get(f"/lag/{named('a-stranger')}")
        unknown = await client.get("/lag/nobody")
    assert (body["verdict"], body["total"], body["monitored"]) == ("NO CONSUMER", 7, False)
    assert body["groups"][named("normalizer")] == 3
    assert {row["group"] for row in body["data"]} == body["groups"].keys(), "rows are of our groups"
    shown = [one["group"] for one in body["overview"] if one["group"].startswith(named(""))]
    assert shown[:2] == [named("sink-landing"), named("normalizer")]
    assert named("a-stranger") in shown
    assert (group["group"], group["lag"], group["ours"]) == (named("normalizer"), 3, True)
    [orders] = [topic for topic in group["topics"] if topic["topic"] == named("orders.raw")]
    assert (orders["waiting"], orders["exact"], orders["seconds_by"]) == (3, True, "record")
    assert orders["partitions"][0]["committed"] == 1
    assert (stranger.json()["ours"], stranger.json()["lag"]) == (False, 2)
    assert unknown.status_code == 404
    assert "'nobody'" in unknown.json()["detail"]


async def test_the_history_of_a_group_is_what_the_monitor_kept(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = pipeline_settings.named
    produce(pipeline_settings, named("orders.raw"), 0, 4)
    now = time.time
    async with monitor_of(pipeline_settings) as monitor:
        for ago in (120, 60, 0):
            monkeypatch.setattr(time, "time", lambda ago=ago: now() - ago)
            await monitor.sample()
    async with api_client(pipeline_settings) as client:
        body = (await client.get("/lag/normalizer/history", params={"hours": 2})).json()
        short = (await client.get("/lag/normalizer/history", params={"hours": 0.001})).json()
        unknown = await client.get("/lag/nobody/history")
        refused = await client.get("/lag/normalizer/history", params={"hours": -1})
    assert [one["topics"][named("orders.raw")]["waiting"] for one in body["minutes"]] == [4, 4]
    assert body["minutes"][0]["topics"][named("orders.raw")]["verdict"] == "NO CONSUMER"
    assert body["minutes"][0]["topics"][named("orders.raw")]["partitions"] == [4, 0, 0, 0]
    assert short["minutes"] == []
    assert (unknown.status_code, refused.status_code) == (404, 400)


async def test_without_postgres_the_lag_is_told_and_its_history_is_a_503(pipeline_settings: Settings) -> None:
    away = pipeline_settings.model_copy(
        update={"database_url": type(pipeline_settings.database_url)(f"postgresql://x@127.0.0.1:{closed_port()}/x")}
    )
    async with api_client(away) as client:
        assert (await client.get("/lag")).json()["total"] == 0
        answer = await client.get("/lag/normalizer/history")
    assert (answer.status_code, answer.json()["store"]) == (503, "Postgres")


async def test_no_more_streams_are_opened_than_a_process_serves(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.endpoints.lag, "MOST_STREAMS", 0)
    async with api_client(pipeline_settings) as client:
        answer = await client.get("/lag/stream")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:headrace:problem:too-many-streams")
    assert answer.headers["Retry-After"]


@contextmanager
def events(url: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """The events of a stream: name and data."""

    def read(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))

    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream("GET", f"{url}/lag/stream", headers={"Accept": "text/event-stream"}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield read(answer)


def test_a_stream_tells_changes_as_they_come_and_ends_with_the_process(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    process = Process("api", pipeline_settings, tmp_path / "api.log")
    process.start()
    try:
        process.wait_until_healthy()
        with events(process.url) as stream, events(process.url) as other:
            name, first = next(stream)
            assert (name, first["total"]) == ("lag", 0)
            assert next(other)[1]["total"] == 0
            produce(pipeline_settings, pipeline_settings.named("orders.raw"), 0, 4)
            changed = next(body for _, body in stream if body["total"])
            assert changed["total"] == 8, "the normalizer's and the landing sink's"
            assert changed["at"] - first["at"] < 60
            process.signal(signal.SIGTERM)
            assert all(name == "lag" for name, _ in stream), "and then the stream ends"
        assert process.stop() == 0
    finally:
        process.kill()


async def test_the_window_survives_a_restart_of_the_monitor(pipeline_settings: Settings) -> None:
    produce(pipeline_settings, pipeline_settings.named("orders.raw"), 0, 4)
    async with monitor_of(pipeline_settings) as first:
        for _ in range(3):
            view = await first.sample()
    assert view is not None
    async with monitor_of(pipeline_settings) as again:
        after = await again.sample()
    assert after is not None
    assert after.window_seconds > view.window_seconds > 0
    assert after.verdict is Verdict.NO_CONSUMER
    async with api_client(pipeline_settings) as client:
        shown = (await client.get("/lag")).json()
    assert shown["monitored"]
    assert shown["window_seconds"] > after.window_seconds, "whoever asks judges by the same window, up to now"


async def test_the_monitor_goes_on_without_postgres_and_saves_what_it_saw_once_postgres_is_back(
    pipeline_settings: Settings,
) -> None:
    async with monitor_of(pipeline_settings) as monitor:
        url, monitor._samples._url = monitor._samples._url, f"postgresql://x@127.0.0.1:{closed_port()}/x"
        for _ in range(3):
            view = await monitor.sample()
        assert view is not None
        assert view.window_seconds > 0
        assert monitor.health()["postgres"] != "answers"
        monitor._samples._url = url
        after = await monitor.sample()
        assert after is not None
        assert after.window_seconds > view.window_seconds
        assert monitor.health()["postgres"] == "answers"
        assert len(await monitor._samples.load(0) or ()) == 4


async def test_the_monitor_hands_every_view_on_and_a_listener_that_fails_stops_nobody(
    pipeline_settings: Settings,
) -> None:
    seen: list[str] = []

    async def fails(_: object) -> None:
        raise RuntimeError("not today")

    async def notes(view: SystemLag) -> None:
        seen.append(view.verdict)

    async with monitor_of(pipeline_settings, fails, notes) as monitor:
        await monitor.sample()
    assert seen == ["OK"]


async def test_the_monitor_waits_for_a_broker_that_is_away(pipeline_settings: Settings) -> None:
    away = pipeline_settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{closed_port()}"})
    async with monitor_of(away) as monitor:
        assert await monitor.sample() is None
        health = monitor.health()
    assert health["kafka"] == "no broker answers"
    assert "problem" not in health
