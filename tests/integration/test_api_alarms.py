"""`GET /alarms`: what is open and what was, as the monitor keeps it."""

from dataclasses import replace

from sqlalchemy import text

from monitoring.alarms import Alarm
from runtime.settings import Settings
from stores.alarms import KEPT_DAYS, save_alarms
from stores.postgres_engine import postgres_engine
from tests.integration.api_client import api_client

OPEN = Alarm("behind", "sink-redis", "warning", "400 s behind", 400.0, since=1.0, id="a1", opened_at=31.0)
VERDICT = Alarm("stopped", "normalizer", "critical", "STOP", "STOP", since=2.0, id="a2", opened_at=2.0)


async def test_what_is_open_comes_oldest_first_and_what_was_latest_first(migrated_settings: Settings) -> None:
    engine = postgres_engine(migrated_settings)
    closed = [replace(OPEN, id=f"c{number}", closed_at=4e9 + number) for number in range(3)]
    long_gone = replace(OPEN, id="old", closed_at=5.0)
    async with engine.begin() as connection:
        await save_alarms(connection, [one.json() for one in (OPEN, VERDICT, *closed, long_gone)])
    async with api_client(migrated_settings) as client:
        answer = (await client.get("/alarms", params={"limit": 2})).json()
        assert [one["id"] for one in answer["open"]] == ["a2", "a1"]
        assert [one["id"] for one in answer["closed"]] == ["c2", "c1"]
        assert answer["open"][1] == OPEN.json()
        async with engine.begin() as connection:
            await save_alarms(connection, [replace(OPEN, closed_at=5e9).json()])
            assert (await connection.execute(text("SELECT count(*) FROM alarms WHERE id = 'old'"))).scalar_one() == 0
        assert KEPT_DAYS > 0
        answer = (await client.get("/alarms")).json()
        assert [one["id"] for one in answer["open"]] == ["a2"]
        assert [one["id"] for one in answer["closed"]] == ["a1", "c2", "c1", "c0"]
        assert (await client.get("/alarms", params={"limits": 2})).status_code == 400
    await engine.dispose()
