"""API keys on a real Postgres: who gets in, who does not, and how soon a change counts."""

import asyncio
import datetime
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from api import key_ring
from api.current_request import bind_request_id, key_name
from api.endpoints.failure_jobs import who
from api.key_ring import KeyRing
from api.problems import ProblemAnswer
from runtime.scopes import Scope
from runtime.settings import Settings
from services.runs.history import ask
from stores.api_keys import (
    ApiKey,
    KeyNotThere,
    NameTaken,
    NotTaken,
    create_key,
    digest_of,
    keep_key,
    note_uses,
    read_keys,
    revoke_keys,
    rotate_key,
)
from stores.outages import Unavailable
from stores.postgres_engine import postgres_engine
from tests.integration.api_client import CUSTOMERS, api_client, closed_port, customer, store
from tests.processes import PROJECT, Pipeline, Process, environment_of
from tests.waiting import eventually, eventually_async

READ, WRITE, OPERATE = Scope.READ, Scope.WRITE, Scope.OPERATE
USER = {"name": "Ada", "email": "ada@example.org", "role": "admin"}


@pytest.fixture
def keyed(migrated_settings: Settings) -> Settings:
    return migrated_settings.model_copy(update={"api_access": "keys"})


async def new_key(
    settings: Settings, name: str, *scopes: Scope, expires_at: datetime.datetime | None = None
) -> tuple[ApiKey, str]:
    return await ask(settings, lambda connection: create_key(connection, name, scopes, expires_at))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_scopes_decide_what_a_key_may_do(keyed: Settings) -> None:
    _, reader = await new_key(keyed, "reader", READ)
    _, writer = await new_key(keyed, "writer", WRITE)
    async with api_client(keyed) as client:
        assert (await client.get("/api/customers")).status_code == 401
        assert (await client.get("/api/customers", headers=bearer(reader))).status_code == 200
        assert (await client.get("/api/customers", headers={"X-API-Key": reader})).status_code == 200
        assert (await client.get("/api/customers", headers=bearer(writer))).status_code == 403
        refused = await client.post("/users/", json=USER, headers=bearer(reader))
        assert (refused.status_code, refused.json()["scope"]) == (403, "write")
        assert (await client.post("/users/", json=USER, headers=bearer(writer))).status_code == 201
        assert (await client.post("/api/ingest", headers=bearer(writer))).json()["scope"] == "operate"
        assert (await client.post("/api/ingest")).status_code == 401


async def test_a_record_in_the_cache_is_read_with_a_key_only(keyed: Settings) -> None:
    await store(keyed, CUSTOMERS, [customer(1)])
    _, reader = await new_key(keyed, "reader", READ)
    _, writer = await new_key(keyed, "writer", WRITE)
    path = "/api/customers/CUST001"
    async with api_client(keyed) as client:
        assert (await client.get(path, headers=bearer(reader))).status_code == 200
        assert (await client.get(path, headers=bearer(reader))).headers["x-cache"] == "hit"
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers=bearer(writer))).status_code == 403


async def test_a_trace_asks_the_api_in_the_name_of_who_asked(keyed: Settings) -> None:
    await store(keyed, CUSTOMERS, [customer(1)])
    _, reader = await new_key(keyed, "reader", READ)
    async with api_client(keyed) as client:
        for headers in (bearer(reader), {"X-API-Key": reader}):
            answer = await client.get("/trace/customers/CUST001", headers=headers)
            (api,) = [one for one in answer.json()["stores"] if one["store"] == "api"]
            assert api["record"]["customer_id"] == "CUST001"


async def test_actions_and_requests_are_noted_with_the_name_of_the_key(keyed: Settings) -> None:
    _, operator = await new_key(keyed, "night-shift", OPERATE)
    async with api_client(keyed) as client:
        with capture_logs() as logs:
            await client.post("/failures/1/discard", json={"reason_text": "x"}, headers=bearer(operator))
            await client.get("/livez")
            await client.get("/stats")
    named = [line.get("key") for line in logs if line["event"] == "request"]
    assert named[0] == "night-shift"
    assert named[-1] is None
    assert operator not in str(logs)
    key_name.set("night-shift")
    bind_request_id("42")
    assert who() == "api:night-shift:42"


async def test_a_caller_without_a_key_learns_no_more_than_a_load_balancer_needs(keyed: Settings) -> None:
    _, reader = await new_key(keyed, "reader", READ)
    async with api_client(keyed) as client:
        bare = await client.get("/api/health")
        assert bare.status_code == 200
        assert bare.json().keys() == {"status"}
        assert "components" in (await client.get("/api/health", headers=bearer(reader))).json()
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz", headers=bearer("hr_wrong_wrong"))).status_code == 200
        for path in ("/metrics", "/health", "/stats", "/topics", "/audit"):
            assert (await client.get(path)).status_code == 401, path
        assert (await client.get("/metrics", headers=bearer(reader))).status_code == 200


async def test_why_postgres_is_away_is_told_to_those_who_may_read_only(keyed: Settings) -> None:
    port = closed_port()
    down = keyed.model_copy(
        update={
            "database_url": Settings(database_url=f"postgresql://headrace:x@127.0.0.1:{port}/headrace").database_url
        }
    )
    async with api_client(down) as client:
        hidden = await client.get("/readyz")
    async with api_client(down.model_copy(update={"api_access": "open"})) as client:
        told = await client.get("/readyz")
    assert hidden.status_code == told.status_code == 503
    assert str(port) in told.text
    assert str(port) not in hidden.text


@pytest.mark.parametrize(
    "sent",
    [
        {"Authorization": "Bearer hr_000000000000_" + "x" * 43},
        {"Authorization": "Bearer nothing-like-a-key"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"X-API-Key": "hr__"},
        {"X-API-Key": "hr_" + "a" * 5000},
        {"X-API-Key": "ü".encode()},
    ],
    ids=repr,
)
async def test_what_is_no_key_is_401_with_a_challenge(keyed: Settings, sent: dict[str, Any]) -> None:
    await new_key(keyed, "reader", READ)
    async with api_client(keyed) as client:
        answer = await client.get("/stats", headers=sent)
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_a_right_id_with_another_secret_is_refused(keyed: Settings) -> None:
    key, text_of = await new_key(keyed, "reader", READ)
    forged = f"hr_{key.id}_" + "A" * 43
    async with api_client(keyed) as client:
        unknown = await client.get("/stats", headers=bearer("hr_000000000000_" + "A" * 43))
        wrong = await client.get("/stats", headers=bearer(forged))
        almost = await client.get("/stats", headers=bearer(text_of[:-1]))
    for answer in (unknown, wrong, almost):
        assert answer.status_code == 401
        assert answer.json()["detail"] == unknown.json()["detail"], "nobody learns which ids there are"


async def test_an_expired_key_is_told_so_by_401(keyed: Settings) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
    key, text_of = await new_key(keyed, "short", READ, expires_at=soon)
    async with api_client(keyed) as client:

        async def refused() -> bool:
            answer = await client.get("/stats", headers=bearer(text_of))
            return answer.status_code == 401 and "expired" in answer.json()["detail"]

        await eventually_async(refused, what="the key is refused once its time has come")
    assert key.expires_at == soon


async def test_a_new_key_works_at_once_and_a_revoked_one_stops_without_a_restart(keyed: Settings) -> None:
    async with api_client(keyed) as client:
        key, text_of = await new_key(keyed, "reader", READ)

        async def taken() -> bool:
            return (await client.get("/stats", headers=bearer(text_of))).status_code == 200

        await eventually_async(taken, what="the new key is taken")
        await ask(keyed, lambda connection: revoke_keys(connection, key.id))

        async def refused() -> bool:
            answer = await client.get("/stats", headers=bearer(text_of))
            return answer.status_code == 401 and "revoked" in answer.json()["detail"]

        await eventually_async(refused, what="the revoked key is refused")
    assert key_ring.REFRESH_SECONDS <= 5, "what docs/security.md promises"


@pytest.mark.parametrize("ending", ["revoked", "expired"])
def test_an_open_stream_ends_with_its_key(keyed: Settings, tmp_path: Path, ending: str) -> None:
    made, key = asyncio.run(new_key(keyed, "watcher", READ))
    _, lasting = asyncio.run(new_key(keyed, "other", READ))
    now = datetime.datetime.now(datetime.UTC)
    with (
        Process("api", keyed, tmp_path / "api.log").running() as api,
        httpx.Client(base_url=api.url, timeout=60, trust_env=False) as client,
        client.stream("GET", "/lag/stream", headers=bearer(key)) as events,
        client.stream("GET", "/lag/stream", headers=bearer(lasting)) as others,
    ):
        lines, other_lines = events.iter_lines(), others.iter_lines()
        assert next(lines).startswith("event: ")
        if ending == "revoked":
            asyncio.run(ask(keyed, lambda connection: revoke_keys(connection, made.id)))
        else:
            asyncio.run(ask(keyed, lambda connection: rotate_key(connection, "watcher", now, None)))
        heartbeats = 0
        for line in lines:  # until it ends; without an end there is a heartbeat every 15 s
            heartbeats += line == ": still there"
            assert heartbeats < 20, "it is still open"
        assert client.get("/lag/stream", headers=bearer(key)).status_code == 401
        assert next(line for line in other_lines if line == ": still there")


async def test_after_a_rotation_both_keys_count_until_the_old_one_ends(keyed: Settings) -> None:
    first, old = await new_key(keyed, "shop", READ, WRITE)
    in_an_hour = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    async with api_client(keyed) as client:

        async def answers() -> list[int]:
            return [(await client.get("/stats", headers=bearer(key))).status_code for key in (old, new)]

        fresh, new = await ask(keyed, lambda connection: rotate_key(connection, "shop", in_an_hour, None))
        assert fresh.name == "shop"
        assert fresh.scopes == {READ, WRITE}
        await eventually_async(lambda: _is(answers, [200, 200]), what="both count")
        assert {one.id: one.expires_at for one in await ask(keyed, read_keys)} == {first.id: in_an_hour, fresh.id: None}
        now = datetime.datetime.now(datetime.UTC)
        _, newest = await ask(keyed, lambda connection: rotate_key(connection, "shop", now, None))
        assert newest not in (old, new)
        await eventually_async(lambda: _is(answers, [401, 401]), what="a grace of no time ends both at once")


async def test_a_rotated_key_lives_as_long_as_the_one_before_was_made_for(keyed: Settings) -> None:
    ninety = datetime.timedelta(days=90)
    now = datetime.datetime.now(datetime.UTC)
    first, _ = await new_key(keyed, "shop", READ, expires_at=now + ninety)
    for _ in range(2):  # the first one's end is cut by the first rotation, and counts no more in the second
        fresh, _ = await ask(keyed, lambda connection: rotate_key(connection, "shop", now, None))
        assert fresh.expires_at is not None
        lives = fresh.expires_at - fresh.created_at
        assert abs(lives - ninety) < datetime.timedelta(days=1)
    in_a_year = now + datetime.timedelta(days=365)
    asked_for, _ = await ask(keyed, lambda connection: rotate_key(connection, "shop", now, in_a_year))
    assert asked_for.expires_at == in_a_year
    assert first.expires_at == now + ninety


async def _is(answers: Callable[[], Awaitable[list[int]]], wanted: list[int]) -> bool:
    return await answers() == wanted


async def test_only_digests_are_kept_and_a_name_has_one_valid_key(keyed: Settings) -> None:
    key, text_of = await new_key(keyed, "reader", READ)

    async def stored(connection: AsyncConnection) -> str:
        return str((await connection.execute(text("SELECT api_keys::text FROM api_keys"))).scalar_one())

    row = await ask(keyed, stored)
    assert text_of.rpartition("_")[2] not in row
    assert key.digest == hashlib.sha256(text_of.encode()).digest()
    with pytest.raises(NameTaken):
        await new_key(keyed, "reader", WRITE)
    await ask(keyed, lambda connection: revoke_keys(connection, "reader"))
    with pytest.raises(KeyNotThere):
        await ask(keyed, lambda connection: revoke_keys(connection, "reader"))
    await new_key(keyed, "reader", WRITE)
    assert [one.state for one in await ask(keyed, lambda c: read_keys(c, every=True))] == ["revoked", "valid"]


async def test_a_key_of_a_secret_is_kept_again_and_again_and_no_other_in_its_place(keyed: Settings) -> None:
    given = "hr_0123456789ab_" + "S" * 43

    async def keep(key: str, name: str, *scopes: Scope) -> ApiKey:
        return await ask(keyed, lambda connection: keep_key(connection, name, key, scopes, None))

    await keep(given, "dashboard", READ)
    assert (await keep(given, "dashboard", READ, OPERATE)).scopes == {READ, OPERATE}
    assert len(await ask(keyed, read_keys)) == 1
    async with api_client(keyed) as client:
        assert (await client.get("/stats", headers=bearer(given))).status_code == 200
    for key, name, refusal in (
        (given[:-1] + "x", "other", NotTaken),
        ("hr_0123456789ab_short", "other", NotTaken),
        ("password", "other", NotTaken),
        ("hr_ba9876543210_" + "S" * 43, "dashboard", NameTaken),
    ):
        with pytest.raises(refusal):
            await keep(key, name, READ)
    await ask(keyed, lambda connection: revoke_keys(connection, "dashboard"))
    with pytest.raises(NotTaken, match="revoked"):
        await keep(given, "dashboard", READ)


async def test_the_latest_use_of_a_key_is_noted_when_the_api_ends_if_not_before(keyed: Settings) -> None:
    key, text_of = await new_key(keyed, "reader", READ)
    assert key.last_used_at is None
    async with api_client(keyed) as client:
        await client.get("/stats", headers=bearer(text_of))
    (noted,) = await ask(keyed, read_keys)
    assert noted.last_used_at is not None
    await ask(keyed, lambda connection: note_uses(connection, {key.id: 0.0}))
    assert (await ask(keyed, read_keys))[0].last_used_at == noted.last_used_at, "an older use changes nothing"


async def test_without_postgres_known_keys_go_on_reading_and_write_nothing(keyed: Settings) -> None:
    _, text_of = await new_key(keyed, "all", *Scope)
    now = 0.0
    engine = postgres_engine(keyed)
    gone = postgres_engine(
        keyed.model_copy(
            update={
                "database_url": Settings(
                    database_url=f"postgresql://headrace:x@127.0.0.1:{closed_port()}/headrace"
                ).database_url
            }
        )
    )
    ring = KeyRing(engine, clock=lambda: now)
    try:
        caller, doubt = await ring.caller(text_of)
        assert caller.scopes == frozenset(Scope)
        assert doubt is None
        ring._engine = gone
        now = key_ring.FRESH_SECONDS + 1
        caller, doubt = await ring.caller(text_of)
        assert caller.scopes == {Scope.READ, Scope.PERSONAL}
        assert isinstance(doubt, Unavailable), "a write is answered by 503, not by 403"
        with pytest.raises(Unavailable):
            await ring.caller("hr_000000000000_" + "A" * 43)
        now = key_ring.KEPT_SECONDS + 1
        with pytest.raises(Unavailable):
            await ring.caller(text_of)
    finally:
        await engine.dispose()
        await gone.dispose()


async def test_an_unknown_id_and_a_wrong_secret_take_the_same_way(
    keyed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is compared, not how long it takes: readings of Postgres, digests, comparisons."""
    key, _ = await new_key(keyed, "reader", READ)
    engine = postgres_engine(keyed)
    ring = KeyRing(engine)
    steps: list[str] = []

    def noted(step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*given: Any) -> Any:
            steps.append(step)
            return call(*given)

        return noting

    monkeypatch.setattr("api.key_ring.hmac.compare_digest", noted("compare", hmac.compare_digest))
    monkeypatch.setattr("api.key_ring.digest_of", noted("digest", digest_of))
    read = ring._reading.get

    monkeypatch.setattr(ring._reading, "get", noted("read", read))
    ways = []
    try:
        for attempt in (f"hr_{key.id}_" + "A" * 43, "hr_000000000000_" + "A" * 43):
            await read()
            steps.clear()
            with pytest.raises(ProblemAnswer):
                await ring.caller(attempt)
            ways.append(list(steps))
    finally:
        await engine.dispose()
    assert ways[0] == ways[1]
    assert ways[0].count("compare") == ways[0].count("digest") == 2


def headrace(settings: Settings, *words: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    environment = environment_of(settings) | {"PATH": "", "PYTHONPATH": str(PROJECT)} | variables
    return subprocess.run(
        [sys.executable, "-m", "cli", *words],
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_makes_lists_rotates_and_revokes_keys(keyed: Settings) -> None:
    made = headrace(keyed, "keys", "create", "shop", "--scope", "write", "--scope", "read", "--expires", "90d")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert key.startswith("hr_")
    assert key not in made.stderr
    assert headrace(keyed, "keys", "create", "shop", "--scope", "read").returncode == 1
    assert headrace(keyed, "keys", "create", "a b", "--scope", "read").returncode == 2
    assert headrace(keyed, "keys", "create", "x", "--scope", "everything").returncode == 2
    assert headrace(keyed, "keys", "create", "x", "--scope", "read", "--expires", "2001-01-01").returncode == 2
    rotated = json.loads(headrace(keyed, "keys", "rotate", "shop", "--grace", "1h", "--json").stdout)
    assert rotated["scopes"] == ["read", "write"]
    listed = headrace(keyed, "keys", "list", "--json").stdout
    assert [one["name"] for one in json.loads(listed)] == ["shop", "shop"]
    assert "digest" not in listed
    assert rotated["key"] not in listed
    assert "shop" in headrace(keyed, "keys", "list").stdout
    assert headrace(keyed, "keys", "revoke", rotated["id"]).returncode == 0
    states = {one["id"]: one["state"] for one in json.loads(headrace(keyed, "keys", "list", "--all", "--json").stdout)}
    assert states[rotated["id"]] == "revoked"
    assert headrace(keyed, "keys", "revoke", "nobody").returncode == 1
    secret = "hr_0123456789ab_" + "S" * 43 + "\n"
    for _ in range(2):
        kept = headrace(keyed, "keys", "create", "pod", "--scope", "read", "--given", given=secret)
        assert (kept.returncode, kept.stdout) == (0, "pod (0123456789ab) may read.\n"), kept.stderr
    assert headrace(keyed, "keys", "create", "pod", "--scope", "read", "--given", given="").returncode == 1


ANYWHERE = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"API_ACCESS": "open"}, ("API_BIND=0.0.0.0", "API_ACCESS=keys", "API_PUBLISHED_ON")),
        ({"API_ACCESS": "open", "API_PUBLISHED_ON": "192.0.2.7"}, ("API_PUBLISHED_ON=192.0.2.7",)),
        ({"API_ACCESS": "keys"}, ("API_BIND=0.0.0.0", "headrace keys create")),
    ],
    ids=["open on a network", "open, published on a network", "no key"],
)
@pytest.mark.parametrize("command", [["api"], ["uvicorn"]], ids=["headrace", "uvicorn"])
def test_the_api_does_not_start_where_everybody_could_ask_or_nobody(
    keyed: Settings, variables: dict[str, str], told: tuple[str, ...], command: list[str]
) -> None:
    port = str(closed_port())
    if command == ["api"]:
        done = headrace(keyed, "api", "--bind", ANYWHERE, "--port", port, **variables)
    else:
        environment = environment_of(keyed) | {"PATH": "", "API_BIND": ANYWHERE, **variables}
        uvicorn = [str(Path(sys.executable).with_name("uvicorn")), "api.main:app", "--port", port]
        done = subprocess.run(
            uvicorn, env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=PROJECT
        )
    assert done.returncode == 1
    for words in told:
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_dashboard_and_commands_send_their_key_and_no_log_has_one(keyed: Settings, tmp_path: Path) -> None:
    keys = {
        name: headrace(keyed, "keys", "create", name, "--scope", scope).stdout.strip()
        for name, scope in (("pages", "read"), ("sender", "write"))
    }
    asyncio.run(store(keyed, CUSTOMERS, [customer(1)]))
    pipeline = Pipeline(keyed, tmp_path, ("api", "dashboard"))
    pipeline["dashboard"].environment["HEADRACE_API_KEY"] = keys["pages"]
    with pipeline, httpx.Client(trust_env=False, timeout=30) as client:
        api, dashboard = (pipeline[role].url for role in ("api", "dashboard"))
        assert "CUST001" in client.get(f"{dashboard}/export/data-customers.csv").text
        record = f"{api}/api/customers/CUST001"
        assert client.get(record).status_code == 401
        assert client.get(record, headers=bearer(keys["pages"])).status_code == 200
        assert client.get(record, headers=bearer(keys["sender"])).status_code == 403
        assert client.get(record, headers=bearer(keys["pages"] + "x")).status_code == 401
        assert client.post(f"{api}/users/", json=USER, headers={"X-API-Key": keys["sender"]}).status_code == 201
        traces = [
            json.loads(headrace(keyed, "trace", "CUST001", "-d", "customers", "--json", API_URL=api, **key).stdout)[0]
            for key in ({}, {"HEADRACE_API_KEY": keys["pages"]})
        ]
        told = [next(one["state"] for one in trace["stores"] if one["store"] == "api") for trace in traces]
        assert told == ["away", "has it"]
        headrace(keyed, "keys", "revoke", "pages")
        eventually(
            lambda: client.get(f"{dashboard}/export/data-customers.csv").status_code == 401,
            what="the dashboard's key is refused",
        )
    logs = "".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert '"key": "pages"' in logs
    for key in keys.values():
        assert key.rpartition("_")[2] not in logs
