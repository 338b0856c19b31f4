"""A user of Postgres that lacks a right: nothing is lost, nothing dies, and what is told names table and way out."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from monitoring.lag import read_lag
from monitoring.verdicts import Verdict
from runtime.settings import Settings
from services.alarms.alarms import Alarms
from services.runs.scheduler import Scheduler
from sinks.landing import LandingSink
from sinks.postgres.sink import PostgresSink
from tests.integration.api_client import api_client
from tests.integration.postgres_sink_driver import customer, order
from tests.integration.sink_events import publish, running
from tests.integration.test_alarms_without_postgres import view
from tests.integration.test_changed_declarations import clean
from tests.waiting import eventually_async


def send(settings: Settings, start: int) -> None:
    numbers = range(start, start + 10)
    publish(settings, "customers.clean", *(clean(settings, customer(f"C{n}", n)) for n in numbers))
    publish(settings, "orders.clean", *(clean(settings, order(f"O{n}", n)) for n in numbers))


@pytest.mark.parametrize("right", ["INSERT", "SELECT", "UPDATE"])
async def test_a_dataset_whose_table_a_sink_may_not_use_is_paused_alone_until_it_may(
    pipeline_settings: Settings, postgres: Any, monkeypatch: pytest.MonkeyPatch, right: str
) -> None:
    settings = pipeline_settings
    monkeypatch.setattr("sinks.runner.SET_UP_AGAIN_SECONDS", 0.5)

    async def stored(customers: int, orders: int) -> bool:
        # Not of the table itself, which nobody may read meanwhile.
        counts = "SELECT coalesce(sum(inserted), 0)::int FROM coverage WHERE topic = $1"
        found = [await postgres.fetchval(counts, settings.named(f"{name}.raw")) for name in ("customers", "orders")]
        return found == [customers, orders]

    async def committed() -> bool:
        return not any(row.lag for row in await read_lag(settings) if row.group == settings.named("sink-postgres"))

    for granted, taken in ((0, 10), (20, 30)):  # from the start, and under way
        await postgres.execute(f"REVOKE {right} ON customers FROM headrace")
        async with running(PostgresSink(settings), settings) as runner:
            await asyncio.to_thread(send, settings, granted)
            await eventually_async(lambda n=granted: stored(n, n + 10), what="orders go on")  # type: ignore[misc]
            [(topic, reason)] = runner.health()["paused"].items()
            assert topic == settings.named("customers.clean")
            assert "permission denied for table customers" in reason
            assert "`headrace setup`" in reason
            await postgres.execute(f"GRANT {right} ON customers TO headrace")
            await eventually_async(lambda n=taken: stored(n, n), what="customers go on by themselves")  # type: ignore[misc]
            await postgres.execute(f"REVOKE {right} ON customers FROM headrace")
            await asyncio.to_thread(send, settings, taken)
            await eventually_async(lambda n=taken: stored(n, n + 10), what="orders go on")  # type: ignore[misc]
            await postgres.execute(f"GRANT {right} ON customers TO headrace")
            await eventually_async(lambda n=taken: stored(n + 10, n + 10), what="customers go on")  # type: ignore[misc]
            await eventually_async(committed, what="all is committed")
    assert await postgres.fetchval("SELECT sum(failed)::int FROM coverage") == 0


@pytest.mark.parametrize("table", ["coverage", "row_counts"])
async def test_without_a_right_on_a_table_of_all_datasets_a_sink_holds_its_batch_and_says_why(
    pipeline_settings: Settings, postgres: Any, table: str
) -> None:
    settings = pipeline_settings
    await postgres.execute(f"REVOKE INSERT ON {table} FROM headrace")
    async with running(PostgresSink(settings), settings) as runner:
        await asyncio.to_thread(send, settings, 0)

        async def told() -> bool:
            health = runner.health()
            return f"permission denied for table {table}" in str({**health, **health.get("paused", {})})

        await eventually_async(told, what="it says why it waits")
        assert "`headrace rights postgres`" in str(runner.health())
        await postgres.execute(f"GRANT INSERT ON {table} TO headrace")

        async def stored() -> bool:
            return bool(await postgres.fetchval("SELECT sum(inserted)::int = 20 AND sum(failed) = 0 FROM coverage"))

        await eventually_async(stored, what="it goes on by itself")


async def test_the_landing_sink_holds_its_batch_too(pipeline_settings: Settings, postgres: Any) -> None:
    settings = pipeline_settings
    await postgres.execute("REVOKE INSERT ON raw_api_data FROM headrace")
    async with running(LandingSink(settings), settings) as runner:
        publish(settings, "customers.raw", ("C1", b"{}"))

        async def waiting() -> bool:
            return "permission denied for table raw_api_data" in str(runner.health().get("problem"))

        await eventually_async(waiting, what="it says why it waits")
        assert runner.health()["state"] == "waiting_for_store"
        await postgres.execute("GRANT INSERT ON raw_api_data TO headrace")

        async def landed() -> bool:
            return bool(await postgres.fetchval("SELECT count(*) = 1 FROM raw_api_data"))

        await eventually_async(landed, what="it goes on by itself")


async def test_the_api_answers_that_it_lacks_a_right(pipeline_settings: Settings, postgres: Any) -> None:
    await postgres.execute("REVOKE SELECT ON orders FROM headrace")
    async with api_client(pipeline_settings) as api:
        for path in ("/orders", "/datasets/orders", "/orders/totals"):
            answer = await api.get(path)
            assert answer.status_code == 503, path
            assert "permission denied for table orders" in answer.text, path
        assert (await api.get("/api/customers")).status_code == 200


async def test_what_may_not_be_pruned_or_judged_is_told_in_the_log(
    pipeline_settings: Settings, postgres: Any, tmp_path: Path
) -> None:
    await postgres.execute("REVOKE DELETE ON schema_drift FROM headrace; REVOKE SELECT ON etl_runs FROM headrace")
    rules = tmp_path / "alarms.toml"
    rules.write_text('[rules.run_failed]\nwhen = "run_failed"\n')
    settings = pipeline_settings.model_copy(update={"alarms_file": rules, "run_retention_days": 0})
    alarms = Alarms(settings)
    with capture_logs() as logs:
        await Scheduler(settings)._prune()
        for _ in range(2):
            await alarms.take(view(Verdict.OK))
            await alarms.look()
    await alarms._engine.dispose()
    assert [line["event"] for line in logs if "log_level" in line and line["log_level"] == "error"] == [
        "pruning_failed",
        "rule_not_judged",
    ]
    assert "permission denied for table schema_drift" in logs[0]["reason"]
