"""A store that is there and refuses our work is not well: health says so, why, and the way out."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from local_stack import redis as local_redis
from local_stack.servers import RunningServers
from runtime.settings import Settings
from stores.redis_client import Redis
from stores.rights import RIGHTS
from stores.search_index import alias_name
from stores.search_server import SearchServer
from tests.integration.api_client import CUSTOMERS, api_client, customer, store
from tests.processes import free_port

API = RIGHTS["api"].redis

ONCE = "SCRIPT|LOAD"
"""The one command that nobody sends any more once the scripts are there."""

LACKING = [command for command in API.commands if command != ONCE]


def user(name: str, keys: str, commands: list[str]) -> str:
    allowed = " ".join(f"+{command.lower()}" for command in commands)
    return f"user {name} on nopass resetkeys {keys} -@all +@connection -@admin -@dangerous {allowed}"


class UnequalRedis(local_redis.Redis):
    """With a user for each command that it lacks (`no-hmget`), one that lacks keys, and one with all the API needs."""

    def configuration(self) -> str:
        keys = " ".join(f"~*{name}:*" for name in API.keys)
        commands = list(API.commands)
        users = [user(f"no-{gone.lower()}", keys, [one for one in commands if one != gone]) for gone in LACKING]
        users += [
            "user whoever on nopass ~* +@all",
            user("no-keys", "~*cache:*", commands),
            user("whole", keys, commands),
        ]
        return super().configuration() + "\n".join(users) + "\n"


@pytest.fixture(scope="module")
def unequal() -> Iterator[int]:
    """The port of that Redis."""
    home = Path(tempfile.mkdtemp(prefix="headrace-redis-"))
    home.chmod(0o755)  # root's servers have a user of their own
    found = local_redis.find_redis()
    assert not isinstance(found, str), found
    port = free_port()
    running = RunningServers([UnequalRedis(found.program, home / "redis", port, "secret")], home)
    try:
        running.start()
        yield port
    finally:
        running.close()
        shutil.rmtree(home, ignore_errors=True)


def as_user(settings: Settings, port: int, name: str) -> Settings:
    return settings.model_copy(update={"redis_url": SecretStr(f"redis://{name}:any@127.0.0.1:{port}/0")})


async def health(settings: Settings) -> dict[str, Any]:
    async with api_client(settings) as api:
        answer = await api.get("/api/health")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.mark.parametrize("name", [*(f"no-{one.lower()}" for one in LACKING), "no-keys"])
async def test_a_redis_whose_user_lacks_a_right_is_not_up_and_the_way_out_is_told(
    pipeline_settings: Settings, unequal: int, name: str
) -> None:
    await health(as_user(pipeline_settings, unequal, "whole"))  # who has all of it has brought the scripts
    body = await health(as_user(pipeline_settings, unequal, name))
    component = body["components"]["redis"]
    assert (body["status"], component["status"]) == ("degraded", "down")
    assert component["reason"].startswith("it answers, and refuses our work:")
    assert "`headrace rights redis`" in component["reason"]


async def test_who_has_just_the_rights_of_the_api_is_well_however_often_it_is_asked(
    pipeline_settings: Settings, unequal: int
) -> None:
    settings = as_user(pipeline_settings, unequal, "whole")
    for _ in range(3):
        assert (await health(settings))["components"]["redis"]["status"] == "up"


async def test_an_outage_is_told_in_other_words(pipeline_settings: Settings) -> None:
    component = (await health(as_user(pipeline_settings, free_port(), "whole")))["components"]["redis"]
    assert component["status"] == "down"
    assert "refuses" not in component["reason"]


@pytest.mark.parametrize("command", ["hmget", "evalsha", "hset"])
async def test_the_stacks_own_status_tries_the_cache_out_too(unequal: int, command: str) -> None:
    async with Redis.from_url(f"redis://whoever:any@127.0.0.1:{unequal}/0") as administrator:
        assert await asyncio.to_thread(local_redis.problem, unequal, "secret") is None
        await administrator.acl_setuser("headrace", enabled=True, commands=[f"-{command}"])
        try:
            told = await asyncio.to_thread(local_redis.problem, unequal, "secret")
        finally:
            await administrator.acl_setuser("headrace", enabled=True, commands=[f"+{command}"])
    assert told is not None
    assert told.startswith("refuses what the cache does:")
    assert "`headrace rights redis`" in told


async def test_an_index_that_nobody_may_read_is_told_and_searches_go_to_postgres(pipeline_settings: Settings) -> None:
    await store(pipeline_settings, CUSTOMERS, [customer(1)])
    index = alias_name(CUSTOMERS, pipeline_settings)
    async with SearchServer(pipeline_settings, 30.0) as server:
        await server.ask("PUT", f"/{index}", {"settings": {"index.blocks.read": True}})
        try:
            body = await health(pipeline_settings)
            async with api_client(pipeline_settings) as api:
                found = await api.get("/search", params={"q": "Byron1", "dataset": "customers"})
        finally:
            await server.ask("DELETE", f"/{index}")
    component = body["components"]["elasticsearch"]
    assert (body["status"], component["status"]) == ("degraded", "down")
    assert component["reason"].startswith("it answers, and refuses our work: ")
    assert "cluster_block_exception" in component["reason"]
    assert "`read`" in component["reason"]
    assert (found.status_code, found.json()["total"]) == (200, 1), found.text


@pytest.mark.parametrize(
    ("right", "table"), [("SELECT", "orders"), ("SELECT", "api_keys"), ("INSERT", "outbox"), ("UPDATE", "coverage")]
)
async def test_a_postgres_whose_user_lacks_a_right_serves_the_rest_and_says_so(
    pipeline_settings: Settings, postgres: Any, right: str, table: str
) -> None:
    await postgres.execute(f"REVOKE {right} ON {table} FROM headrace")
    body = await health(pipeline_settings)
    component = body["components"]["postgres"]
    assert (body["status"], component["status"]) == ("degraded", "up")
    assert f"its user lacks {right} on {table}" in component["reason"]
    assert "`headrace setup`" in component["reason"]
    await postgres.execute(f"GRANT {right} ON {table} TO headrace")
    assert (await health(pipeline_settings))["status"] == "healthy"
