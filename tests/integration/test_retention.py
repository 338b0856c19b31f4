"""What is too old goes out of Postgres, in steps; what is still needed stays, and the audit says the same."""

from typing import Any

import pytest
from confluent_kafka.admin import ConfigResource

from runtime.kafka.topic_admin import admin_client, set_configuration
from runtime.settings import Settings
from services import retention
from services.audits.audit import whole_audit
from services.retention import prune
from stores.postgres_engine import postgres_engine
from tests.integration.postgres_sink_driver import batch_of, customer, driver
from tests.integration.sink_events import publish
from tests.waiting import eventually


async def land(postgres: Any, offsets: range, days: int) -> None:
    await postgres.execute(
        "INSERT INTO raw_api_data (topic, partition, \"offset\", payload, received_at) SELECT 'x.raw', 0, n, 'p',"
        " now() - make_interval(days => $3) FROM generate_series($1::bigint, $2::bigint) n",
        offsets.start, offsets.stop - 1, days,
    )  # fmt: skip


async def fail(postgres: Any, offset: int, state: str, days: int) -> int:
    query = """
        INSERT INTO ingest_failures (dataset, stage, reason, message, problems, topic, partition, "offset", failed_at,
            state, updated_at)
        VALUES ('x', 's', 'r', 'm', '[]', 'x.raw', 0, $1, now() - make_interval(days => 900), $2,
            now() - make_interval(days => $3)) RETURNING id"""
    return int(await postgres.fetchval(query, offset, state, days))


async def run(postgres: Any, name: str, status: str, days: int, source: str = "s") -> None:
    query = """
        INSERT INTO etl_runs (run_id, source, dataset, trigger, status, started_at)
        VALUES ($1, $2, 'x', 't', $3, now() - make_interval(days => $4))"""
    await postgres.execute(query, name, source, status, days)


async def test_raw_records_go_by_their_age_but_for_those_of_failures_that_nobody_has_dealt_with(
    pipeline_settings: Settings, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 3)
    await postgres.execute("INSERT INTO coverage (topic, partition, ranges) VALUES ('x.raw', 0, '{[0,20)}')")
    await land(postgres, range(10), 91)
    await land(postgres, range(10, 20), 89)
    await fail(postgres, 2, "open", 0)
    await fail(postgres, 3, "held", 0)
    await fail(postgres, 4, "discarded", 0)
    assert (await prune(pipeline_settings, dry_run=True))["raw_api_data"] == 8
    assert await postgres.fetchval("SELECT count(*) FROM raw_api_data") == 20
    assert (await prune(pipeline_settings))["raw_api_data"] == 8
    left = [row[0] for row in await postgres.fetch('SELECT "offset" FROM raw_api_data ORDER BY 1')]
    assert left == [2, 3, *range(10, 20)]
    assert set((await prune(pipeline_settings)).values()) == {0}


async def test_failures_go_once_they_are_settled_and_old(pipeline_settings: Settings, postgres: Any) -> None:
    states = ("open", "held", "queued", "replayed", "parked", "stored", "discarded", "resolved", "failed_again")
    old = [await fail(postgres, number, state, 91) for number, state in enumerate(states)]
    young = await fail(postgres, 100, "discarded", 89)
    for number in (old[-1], young):
        await postgres.execute(
            "INSERT INTO failure_actions (failure_id, action, who, at)"
            " VALUES ($1, 'a', 'w', now() - interval '91 days')",
            number,
        )
    pruned = await prune(pipeline_settings)
    assert (pruned["ingest_failures"], pruned["failure_actions"]) == (4, 1)
    left = [row[0] for row in await postgres.fetch("SELECT id FROM ingest_failures ORDER BY id")]
    assert left == [*old[:5], young]


async def test_of_each_source_its_newest_runs_and_its_checkpoint_stay(
    pipeline_settings: Settings, postgres: Any
) -> None:
    await run(postgres, "old", "success", 500)
    await run(postgres, "checkpoint", "success", 490)
    await run(postgres, "running", "running", 480)
    await run(postgres, "newest success", "success", 470)
    await run(postgres, "old failure", "failed", 460)
    await run(postgres, "newest", "failed", 450)
    await run(postgres, "only", "success", 999, "another")
    await run(postgres, "young", "success", 300, "third")
    await run(postgres, "old of third", "failed", 400, "third")
    await postgres.execute(
        "INSERT INTO etl_checkpoint (source, scope, position, run_id, updated_at)"
        " VALUES ('s', '', '{}', 'checkpoint', now())"
    )
    assert (await prune(pipeline_settings))["etl_runs"] == 3
    left = {row[0] for row in await postgres.fetch("SELECT run_id FROM etl_runs")}
    assert left == {"checkpoint", "running", "newest success", "newest", "only", "young"}


async def test_drifts_go_once_they_are_long_over(pipeline_settings: Settings, postgres: Any) -> None:
    for field, days in (("over", 366), ("lately", 1), ("goes on", None)):
        await postgres.execute(
            "INSERT INTO schema_drift (source_name, dataset, field, what, since, last_seen, records, ended_at)"
            " VALUES ('s', 'x', $1, 'gained', now(), now(), 1, now() - make_interval(days => $2))",
            field, days,
        )  # fmt: skip
    assert (await prune(pipeline_settings))["schema_drift"] == 1
    assert {row[0] for row in await postgres.fetch("SELECT field FROM schema_drift")} == {"lately", "goes on"}


async def test_nothing_goes_that_is_kept_for_ever(pipeline_settings: Settings, postgres: Any) -> None:
    await postgres.execute("INSERT INTO coverage (topic, partition, ranges) VALUES ('x.raw', 0, '{[0,20)}')")
    await land(postgres, range(10), 9_999)
    names = ("landing", "failure", "run", "drift")
    forever = pipeline_settings.model_copy(update={f"{name}_retention_days": 0 for name in names})
    assert await prune(forever) == {}
    assert await postgres.fetchval("SELECT count(*) FROM raw_api_data") == 10


async def test_an_audit_says_the_same_before_and_after(pipeline_settings: Settings, postgres: Any) -> None:
    settings = pipeline_settings
    publish(settings, "customers.raw", *((f"C{number}", b"{}") for number in range(3)))
    topic = settings.named("customers.raw")
    async with driver(settings) as sink:
        items = [customer(f"C{number}", number) for number in range(3)]
        batch = batch_of(items)
        batch.rebase(lambda origin: type(origin)(topic, origin.partition, origin.offset, origin.timestamp))
        await sink.sink.store(sink.connection, batch)
    await postgres.execute(
        "INSERT INTO raw_api_data (topic, partition, \"offset\", payload, received_at)"
        " SELECT $1, 0, n, 'p', now() - interval '91 days' FROM generate_series(0, 2) n", topic,
    )  # fmt: skip
    engine = postgres_engine(settings)
    before = (await whole_audit(settings, engine)).json()
    assert (await prune(settings))["raw_api_data"] == 3
    after = (await whole_audit(settings, engine)).json()
    await engine.dispose()
    assert after == before
    assert after["clean"]


def test_set_up_gives_each_kind_of_topic_its_retention_also_one_that_is_there(pipeline_settings: Settings) -> None:
    changed = {"raw_retention_hours": 5, "failures_retention_hours": 500}
    settings = pipeline_settings.model_copy(update=changed)
    hours = {"customers.raw": 5, "customers.clean": 168, "orders.raw": 5, "users.changed": 168, "failures": 500}
    assert len(set_configuration(settings)) == 4
    wanted = {name: (kept, min(kept, 24)) for name, kept in hours.items()}
    eventually(lambda: kept_hours(settings, hours) == wanted, what="the broker has taken them over")
    assert set_configuration(settings) == {}


def kept_hours(settings: Settings, topics: Any) -> dict[str, tuple[int, int]]:
    resources = {ConfigResource(ConfigResource.Type.TOPIC, settings.named(name)): name for name in topics}
    admin = admin_client(settings)  # kept until the answers are in
    answers = admin.describe_configs(list(resources))
    configs = {resources[resource]: answer.result() for resource, answer in answers.items()}
    return {
        name: (int(config["retention.ms"].value) // 3_600_000, int(config["segment.ms"].value) // 3_600_000)
        for name, config in configs.items()
    }
