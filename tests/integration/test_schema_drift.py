"""Drift as the landing sink notices it: in the table, in the API, once per record however often it is delivered."""

import json
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
import structlog

from runtime.settings import Settings
from schemas.sinks import SINKS, sink_named
from sinks.landing import LandingSink
from tests.integration.api_client import api_client
from tests.integration.sink_events import publish, running
from tests.integration.test_landing_sink import rows
from tests.waiting import eventually_async

HEADERS = {"headrace-source": b"shop", "headrace-kind": b"api"}


def send(settings: Settings, run: str, *records: dict[str, Any], **more: bytes) -> None:
    messages = ((str(number), json.dumps(record).encode()) for number, record in enumerate(records))
    publish(settings, "customers.raw", *messages, headers={**HEADERS, "headrace-run": run.encode(), **more})


async def landed(settings: Settings, count: int) -> None:
    async def all_there() -> bool:
        return len(await rows(settings, "raw_api_data")) == count

    await eventually_async(all_there, what=f"{count} records have landed")


async def drift(settings: Settings) -> list[dict[str, Any]]:
    async with api_client(settings) as api:
        answer = await api.get("/schema-drift?source=shop")
        assert answer.status_code == 200
        found: list[dict[str, Any]] = answer.json()["data"]
        return found


async def test_a_field_that_is_renamed_is_one_lost_and_one_gained_in_the_api_and_the_log(
    pipeline_settings: Settings,
) -> None:
    before = [{"customer_id": f"C{n}", "email": f"c{n}@example.org"} for n in range(25)]
    after = [{"customer_id": f"C{n}", "mail": f"c{n}@example.org"} for n in range(25)]
    with structlog.testing.capture_logs() as log:
        async with running(LandingSink(pipeline_settings), pipeline_settings):
            send(pipeline_settings, "r1", *before)
            send(pipeline_settings, "r2", *after)
            await landed(pipeline_settings, 50)
    lost, gained = sorted(await drift(pipeline_settings), key=lambda row: row["what"], reverse=True)
    assert (lost["what"], lost["field"], lost["from_type"], lost["records"]) == ("lost", "email", "text", 25)
    assert (lost["breaking"], lost["reason"], lost["run_id"]) == (True, "missing_field", "r2")
    assert lost["example"]["offset"] == 25
    assert json.loads(lost["example"]["text"]) == after[0]
    assert (gained["what"], gained["field"], gained["to_type"], gained["records"]) == ("gained", "mail", "text", 25)
    assert (gained["breaking"], gained["reason"], gained["example"]["text"]) == (False, None, '"c0@example.org"')
    lines = [(line["what"], line["field"], line["log_level"]) for line in log if line["event"] == "schema_drift"]
    assert sorted(lines) == [("gained", "mail", "info"), ("lost", "email", "warning")]


async def test_records_that_come_again_are_not_counted_again_and_a_restart_forgets_nothing(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(LandingSink(pipeline_settings), pipeline_settings):
        send(pipeline_settings, "r1", *({"customer_id": f"C{n}"} for n in range(30)))
        send(pipeline_settings, "r2", {"customer_id": "C1", "note": "x"})
        await landed(pipeline_settings, 31)
    connect: Any = asyncpg.connect
    connection = await connect(pipeline_settings.plain_database_url)
    # Of the batch that comes again one record has not landed: it alone is new.
    await connection.execute('DELETE FROM raw_api_data WHERE "offset" = 30')
    again = replace(sink_named("landing"), name="landing-again")
    monkeypatch.setattr("schemas.sinks.SINKS", [*SINKS, again])
    sink = LandingSink(pipeline_settings)
    sink.name = again.name
    async with running(sink, pipeline_settings):
        send(pipeline_settings, "r3", {"customer_id": "C2", "note": "y"})
        await landed(pipeline_settings, 32)
    [state] = [json.loads(row["state"]) for row in await connection.fetch("SELECT state FROM source_schemas")]
    await connection.close()
    assert state["records"] == 33
    [gained] = await drift(pipeline_settings)
    assert (gained["field"], gained["records"]) == ("note", 3)


async def test_foreign_and_hostile_records_drift_for_nobody(pipeline_settings: Settings) -> None:
    async with running(LandingSink(pipeline_settings), pipeline_settings):
        send(pipeline_settings, "r1", *({"customer_id": f"C{n}"} for n in range(10)))
        send(pipeline_settings, "r2", {"customer_id": "C1", "\x00": "\x00"}, {"half a pair \ud800": 1})
        payloads = ((None, payload) for payload in (b"", b"[1]", b"\xff\xfe", b"{", b"[" * 100_000, None))
        publish(pipeline_settings, "customers.raw", *payloads, headers=HEADERS)
        send(pipeline_settings, "r4", {"other": 1}, **{"headrace-problem": b"ragged_row"})
        send(pipeline_settings, "r5", {"edited": 1}, **{"headrace-replay-of": b"7"})
        publish(pipeline_settings, "customers.raw", ("k", b'{"a":1}'), headers={"headrace-source": b"\xff\x00"})
        await landed(pipeline_settings, 21)
    assert [row["field"] for row in await drift(pipeline_settings)] == ["\ufffd"]
