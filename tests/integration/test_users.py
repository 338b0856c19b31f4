"""Users over HTTP on a real Postgres and Redis: what is written, what is refused, and who reads what he wrote."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from runtime.settings import Settings
from schemas.events import ChangeEvent
from stores.cache import VersionedCache
from tests.e2e.stores import rows, value
from tests.integration.api_client import api_client, closed_port

ADA = {"name": "Ada Lovelace", "email": "ada@example.org", "role": "admin"}


@pytest.fixture
async def client(migrated_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(migrated_settings) as client:
        yield client


def outbox(settings: Settings) -> dict[str, ChangeEvent]:
    """Events still to be published, by key."""
    entries = rows(settings, "SELECT dataset, key, version, event FROM outbox")
    events = {entry["key"]: msgspec.json.decode(entry["event"], type=ChangeEvent) for entry in entries}
    for entry in entries:
        event = events[entry["key"]]
        assert (entry["dataset"], event.key, event.version) == ("users", entry["key"], entry["version"])
        assert event.origin is None
    return events


async def test_a_user_is_stored_in_normal_form_with_an_event_in_the_same_transaction(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    answer = await client.post(
        "/users/", json={"name": "  Ada   Lovelace ", "email": "Ada@Example.ORG", "role": "admin"}
    )
    user = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, "/users/ada@example.org")
    assert {name: user[name] for name in ADA} == ADA
    assert user["created_at"].endswith("Z")
    assert user["updated_at"] is None
    [row] = rows(migrated_settings, "SELECT * FROM users")
    assert (row["email"], row["search_text"]) == ("ada@example.org", "ada lovelace ada@example.org admin")
    [event] = outbox(migrated_settings).values()
    assert (event.op, event.version, msgspec.json.decode(event.data)) == ("stored", row["version"], user)


async def test_a_user_may_be_posted_without_the_slash(client: httpx.AsyncClient) -> None:
    assert (await client.post("/users", json=ADA)).status_code == 201
    assert (await client.get("/users")).json() == (await client.get("/users/")).json()


async def test_of_fifty_at_once_one_gets_the_address(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    spellings = ["".join(random.choice((c.lower(), c.upper())) for c in "ada@example.org") for _ in range(50)]
    answers = await asyncio.gather(*(client.post("/users/", json={**ADA, "email": email}) for email in spellings))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 49]
    taken = next(answer for answer in answers if answer.status_code == 409)
    assert taken.headers["content-type"] == "application/problem+json"
    assert taken.json()["type"] == "urn:headrace:problem:email-taken"
    assert taken.json()["email"] == "ada@example.org"
    assert value(migrated_settings, "SELECT count(*) FROM users") == 1
    assert len(outbox(migrated_settings)) == 1


WRONG: list[tuple[Any, str]] = [
    ({"email": "a@b.org", "role": "x"}, "name"),
    ({"name": "A", "role": "x"}, "email"),
    ({"name": "A", "email": "a@b.org"}, "role"),
    ({**ADA, "name": " "}, "name"),
    ({**ADA, "name": None}, "name"),
    ({**ADA, "name": 7}, "name"),
    ({**ADA, "name": "x" * 201}, "name"),
    ({**ADA, "name": "a\x00b"}, "name"),
    ({**ADA, "name": ["Ada"]}, "name"),
    ({**ADA, "email": "ada at example"}, "email"),
    ({**ADA, "email": "{x}@"}, "email"),
    ({**ADA, "email": f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.org"}, "email"),
    ({**ADA, "role": "x" * 51}, "role"),
    ({**ADA, "rôle": "x"}, "rôle"),
]


@pytest.mark.parametrize(("body", "wrong"), WRONG)
async def test_a_body_that_is_no_user_is_refused_by_field(
    client: httpx.AsyncClient, migrated_settings: Settings, body: dict[str, Any], wrong: str
) -> None:
    answer = await client.post("/users/", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["parameter"] for error in answer.json()["errors"]] == [wrong]
    assert value(migrated_settings, "SELECT count(*) FROM users") == 0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b'{"name": "\\ud800", "email": "a@b.org", "role": "x"}']
)
async def test_a_body_that_is_no_object_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/users/", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "urn:headrace:problem:invalid-body"


async def test_an_absence_that_is_cached_is_forgotten_when_the_user_is_created(client: httpx.AsyncClient) -> None:
    missing = [await client.get("/users/Ada@example.org") for _ in range(2)]
    assert [(answer.status_code, answer.headers["x-cache"]) for answer in missing] == [(404, "miss"), (404, "hit")]
    created = await client.post("/users/", json=ADA)
    read = [await client.get(f"/users/{email}") for email in ("ada@example.org", "ADA@EXAMPLE.ORG")]
    assert [(answer.status_code, answer.headers["x-cache"]) for answer in read] == [(200, "miss"), (200, "hit")]
    assert {answer.content for answer in read} == {created.content}
    assert {answer.headers["etag"] for answer in read} == {created.headers["etag"]}


async def test_an_absence_is_cached_for_a_shorter_time_than_a_user(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    await client.post("/users/", json=ADA)
    for email in ("ada@example.org", "nobody@example.org"):
        await client.get(f"/users/{email}")
    async with Redis.from_url(str(migrated_settings.plain_redis_url)) as redis:
        cache = VersionedCache(redis, migrated_settings)
        user, absence = [
            await redis.ttl(cache.entry("users", email)) for email in ("ada@example.org", "nobody@example.org")
        ]
    assert 0 <= absence <= migrated_settings.cache_missing_ttl_seconds * 1.1
    assert migrated_settings.cache_missing_ttl_seconds * 1.1 < user <= migrated_settings.cache_ttl_seconds * 1.1


@pytest.mark.parametrize("email", ["nobody", "a b@c.org", "a%00@b.org", "%F0%9F%98%80@b.org", "a@b", "a/b"])
async def test_an_address_that_nobody_can_have_is_not_found(client: httpx.AsyncClient, email: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await client.request(method, f"/users/{email}")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert (await client.patch(f"/users/{email}", json={})).status_code == 404


@pytest.mark.parametrize("email", ["o'hara+x@example.org", "a/b?c=d&e#f%g@example.org", "{a}|b@example.org"])
async def test_the_location_leads_to_a_user_with_an_odd_address(client: httpx.AsyncClient, email: str) -> None:
    created = await client.post("/users/", json={**ADA, "email": email})
    assert created.status_code == 201, created.text
    found = await client.get(created.headers["location"])
    assert found.json()["email"] == email


async def test_a_change_is_read_at_once_and_what_changes_nothing_leaves_no_trace(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    created = (await client.post("/users/", json=ADA)).json()
    await client.get("/users/ada@example.org")
    same = await client.patch("/users/Ada@example.org", json={"name": " Ada  Lovelace", "email": "ADA@example.org"})
    assert (same.status_code, same.json()) == (200, created)
    assert (await client.patch("/users/ada@example.org", json={})).json() == created
    version = outbox(migrated_settings)["ada@example.org"].version
    changed = (await client.patch("/users/ada@example.org", json={"role": "editor"})).json()
    assert changed == {**created, "role": "editor", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > created["created_at"]
    assert (await client.get("/users/ada@example.org")).json() == changed
    event = outbox(migrated_settings)["ada@example.org"]
    assert event.version > version
    assert msgspec.json.decode(event.data) == changed


async def test_a_user_may_get_another_address_that_is_free(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    created = (await client.post("/users/", json=ADA)).json()
    await client.post("/users/", json={**ADA, "email": "bob@example.org"})
    taken = await client.patch("/users/ada@example.org", json={"email": "Bob@example.org"})
    assert (taken.status_code, taken.json()["email"]) == (409, "bob@example.org")
    await client.get("/users/countess@example.org")
    moved = await client.patch("/users/ada@example.org", json={"email": "Countess@example.org"})
    assert moved.headers["location"] == "/users/countess@example.org"
    assert moved.json() | {"updated_at": None} == {**created, "email": "countess@example.org"}
    assert (await client.get("/users/countess@example.org")).json() == moved.json()
    assert (await client.get("/users/ada@example.org")).status_code == 404
    events = outbox(migrated_settings)
    assert {key: event.op for key, event in events.items()} == {
        "ada@example.org": "deleted",
        "bob@example.org": "stored",
        "countess@example.org": "stored",
    }
    assert [row["key"] for row in rows(migrated_settings, "SELECT key FROM tombstones")] == ["ada@example.org"]
    assert (await client.post("/users/", json=ADA)).status_code == 201
    assert rows(migrated_settings, "SELECT key FROM tombstones") == []


@pytest.mark.parametrize("change", [{"role": None}, {"name": ""}, {"email": "x"}, {"created_at": "2020-01-01"}, []])
async def test_a_change_that_is_none_is_refused(client: httpx.AsyncClient, change: Any) -> None:
    created = (await client.post("/users/", json=ADA)).json()
    assert (await client.patch("/users/ada@example.org", json=change)).status_code == 422
    assert (await client.get("/users/ada@example.org")).json() == created


async def test_a_deleted_user_is_gone_at_once_and_leaves_a_tombstone(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    await client.post("/users/", json=ADA)
    await client.get("/users/ada@example.org")
    before = outbox(migrated_settings)["ada@example.org"].version
    assert (await client.delete("/users/ADA@example.org")).status_code == 204
    assert (await client.get("/users/ada@example.org")).status_code == 404
    assert (await client.delete("/users/ada@example.org")).status_code == 404
    event = outbox(migrated_settings)["ada@example.org"]
    assert (event.op, event.version > before, bytes(event.data)) == ("deleted", True, b"null")
    assert value(migrated_settings, "SELECT version FROM tombstones") == event.version


async def test_whatever_happens_to_an_address_at_once_its_last_version_tells_its_last_state(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    choice = random.Random(5)
    email = ADA["email"]

    async def step(number: int) -> int:
        kind = choice.randrange(4)
        if kind == 0:
            answer = await client.delete(f"/users/{email}")
        elif kind == 1:
            answer = await client.patch(f"/users/{email}", json={"role": f"role {number}"})
        elif kind == 2:
            await client.post("/users/", json={**ADA, "email": f"other{number}@example.org"})
            answer = await client.patch(f"/users/other{number}@example.org", json={"email": email})
        else:
            answer = await client.post("/users/", json=ADA)
        return answer.status_code

    ten_at_once = asyncio.Semaphore(10)

    async def in_turn(number: int) -> int:
        async with ten_at_once:
            # On a busy machine Postgres may keep the API waiting for longer than it waits: then it asks to come again.
            while (code := await step(number)) == 503:
                pass
            return code

    codes = await asyncio.gather(*(in_turn(number) for number in range(120)))
    assert set(codes) <= {200, 201, 204, 404, 409}
    event = outbox(migrated_settings)[email]
    stored = rows(migrated_settings, "SELECT version, role FROM users WHERE email = $1", email)
    buried = rows(migrated_settings, "SELECT version FROM tombstones WHERE key = $1", email)
    assert len(stored) + len(buried) == 1
    [last] = [*stored, *buried]
    assert (
        event.version
        == last["version"]
        == value(migrated_settings, "SELECT max(version) FROM outbox WHERE key = $1", email)
    )
    assert event.op == ("stored" if stored else "deleted")
    answer = await client.get(f"/users/{email}")
    assert answer.status_code == (200 if stored else 404)


async def test_users_are_listed_by_address_page_by_page(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await client.post("/users/", json={**ADA, "email": f"u{number}@example.org"})
    page = (await client.get("/users?page=2&limit=2")).json()
    assert [user["email"] for user in page["data"]] == ["u2@example.org", "u3@example.org"]
    assert (page["total"], page["total_pages"], page["page"], page["limit"]) == (5, 3, 2, 2)
    rest = (await client.get("/users", params={"cursor": page["next_cursor"]})).json()
    assert [user["email"] for user in rest["data"]] == ["u4@example.org"]
    assert (await client.get("/users?limit=101")).status_code == 400
    assert (await client.get("/users?q=ada&cursor=x")).status_code == 400
    assert (await client.get("/users?q=ada&page=1000&limit=100")).status_code == 400


async def test_without_redis_and_elasticsearch_nothing_is_missing(migrated_settings: Settings) -> None:
    nowhere = f"127.0.0.1:{closed_port()}"
    settings = migrated_settings.model_copy(
        update={"redis_url": SecretStr(f"redis://{nowhere}/0"), "elasticsearch_url": f"http://{nowhere}"}
    )
    async with api_client(settings) as client:
        assert (await client.get("/users/ada@example.org")).status_code == 404
        assert (await client.post("/users/", json=ADA)).status_code == 201
        assert (await client.get("/users/ada@example.org")).headers["x-cache"] == "bypass"
        found = (await client.get("/users", params={"q": "lovel"})).json()
        assert ([user["email"] for user in found["data"]], found["degraded"]) == (["ada@example.org"], True)
        assert (await client.delete("/users/ada@example.org")).status_code == 204


async def test_without_postgres_the_caller_is_told_to_come_again(migrated_settings: Settings) -> None:
    url = f"postgresql://headrace:secret@127.0.0.1:{closed_port()}/headrace"
    async with api_client(Settings(**{**migrated_settings.model_dump(), "database_url": url})) as client:
        answer = await client.post("/users/", json=ADA)
        assert (answer.status_code, answer.json()["store"], answer.headers["retry-after"]) == (503, "postgres", "2")


async def test_the_status_is_running_with_the_time_in_utc(client: httpx.AsyncClient) -> None:
    body = (await client.get("/status")).json()
    assert body.keys() == {"status", "timestamp"}
    assert body["status"] == "running"
    assert body["timestamp"].endswith(" UTC")


REFUSING = {
    "a constraint": ("ALTER TABLE users ADD CONSTRAINT short CHECK (length(role) < 7) NOT VALID", '"short"'),
    "a trigger": (
        """CREATE FUNCTION short() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF length(NEW.role) < 7 THEN RETURN NEW; END IF; RAISE EXCEPTION 'shorten it'; END $$;
        CREATE TRIGGER short BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION short()""",
        "shorten it",
    ),
    "a trigger that drops rows": (
        """CREATE FUNCTION short() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER short BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION short()""",
        "a trigger drops it",
    ),
    "a narrower column": ("ALTER TABLE users ALTER role TYPE varchar(6)", "character varying(6)"),
    "something else that is unique": ("CREATE UNIQUE INDEX short ON users (left(role, 1))", '"short"'),
    "a rule": (
        "CREATE RULE short AS ON INSERT TO users DO INSTEAD NOTHING",
        "INSERT RETURNING",
    ),
    "a view": ("ALTER TABLE users RENAME TO short; CREATE VIEW users AS SELECT DISTINCT * FROM short", '"users"'),
}


@pytest.mark.parametrize(("by_hand", "told"), REFUSING.values(), ids=REFUSING)
async def test_a_user_whom_a_table_altered_by_hand_refuses_is_no_error_of_ours(
    client: httpx.AsyncClient, migrated_settings: Settings, postgres: Any, by_hand: str, told: str
) -> None:
    await client.post("/users/", json=ADA)
    await client.post("/users/", json={**ADA, "email": "editor@example.org", "role": "editor"})
    await postgres.execute(by_hand)
    before = outbox(migrated_settings)
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/users/", {**ADA, "email": "new@example.org", "role": "examiner"}),
        ("PATCH", "/users/ada@example.org", {"role": "examiner"}),
    ]
    for method, path, body in requests[: 1 if "ON INSERT" in by_hand else 2]:
        answer = await client.request(method, path, json=body)
        while "a table has just been altered" in answer.text:  # once a connection, for a statement of before
            answer = await client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:headrace:problem:table-misfit"), answer.text
        assert told in answer.json()["detail"]
        assert answer.headers["retry-after"] == "60"
    assert outbox(migrated_settings) == before
