"""Users: every documented example on the running stack, through to the index, the cache and the audit."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from runtime.settings import Settings
from tests.e2e.command_line import CommandLine
from tests.waiting import eventually

GRACE = {"name": "Grace Hopper", "email": "grace@example.org", "role": "admiral"}


def found(api: httpx.Client, q: str) -> list[str]:
    answer = api.get("/users", params={"q": q}).json()
    assert (answer["backend"], answer["degraded"]) == ("elasticsearch", False)
    return [user["email"] for user in answer["data"]]


def test_the_status_is_running_with_the_time_in_utc(api: httpx.Client) -> None:
    answer = api.get("/status")
    body = answer.json()
    assert (answer.status_code, list(body), body["status"]) == (200, ["status", "timestamp"], "running")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", body["timestamp"])
    shown = datetime.strptime(body["timestamp"], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - shown).total_seconds()) < 60


def test_a_user_is_created_read_found_changed_and_deleted(api: httpx.Client) -> None:
    assert api.get("/users/grace@example.org").status_code == 404
    created = api.post("/users/", json=GRACE)
    user = created.json()
    assert (created.status_code, created.headers["location"]) == (201, "/users/grace@example.org")
    assert user == {**GRACE, "created_at": user["created_at"], "updated_at": None}

    reads = [api.get("/users/Grace@Example.org") for _ in range(2)]
    assert [read.json() for read in reads] == [user, user]
    assert reads[1].headers["x-cache"] == "hit"
    assert api.get("/users/grace@example.org", headers={"If-None-Match": reads[0].headers["etag"]}).status_code == 304
    assert api.get("/datasets/users/grace@example.org").json() == user

    duplicate = api.post("/users/", json={**GRACE, "email": "GRACE@example.org"})
    assert (duplicate.status_code, duplicate.headers["content-type"]) == (409, "application/problem+json")

    for words in ("grace", "hopp", "hoper", "grace@example.org"):
        eventually(lambda words=words: found(api, words)[:1] == [user["email"]], what=f"{words} finds her")  # type: ignore[misc]
    hit = api.get("/search", params={"q": "grace hopper", "dataset": "users"}).json()["data"][0]
    assert (hit["dataset"], hit["key"], hit["record"]) == ("users", user["email"], user)

    changed = api.patch("/users/grace@example.org", json={"role": "programmer"})
    assert (changed.status_code, changed.json()["role"]) == (200, "programmer")
    assert api.get("/users/grace@example.org").json() == changed.json()
    eventually(lambda: found(api, "programmer") == [user["email"]], what="the index follows the change")
    assert found(api, "admiral") == []

    assert api.delete("/users/grace@example.org").status_code == 204
    assert api.get("/users/grace@example.org").status_code == 404
    assert api.delete("/users/grace@example.org").status_code == 404
    eventually(lambda: found(api, "hopper") == [], what="the index forgets her")

    again = api.post("/users", json=GRACE)
    assert again.status_code == 201
    assert again.json()["created_at"] > user["created_at"]
    eventually(lambda: found(api, "hopper") == [user["email"]], what="she is found again")


def test_of_fifty_posts_at_once_exactly_one_creates_the_user(api: httpx.Client, settings: Settings) -> None:
    addresses = [f"{'Race' if number % 2 else 'race'}@example.org" for number in range(50)]

    def post(address: str) -> int:
        return api.post("/users/", json={"name": "Racer", "email": address, "role": "user"}).status_code

    with ThreadPoolExecutor(50) as threads:
        codes = sorted(threads.map(post, addresses))
    assert codes == [201, *[409] * 49]
    assert api.get("/users/race@example.org").json()["email"] == "race@example.org"


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"name": "X", "role": "user"}, "email"),
        ({"name": "X", "email": "not an address", "role": "user"}, "email"),
        ({"name": "", "email": "x@example.org", "role": "user"}, "name"),
        ({"name": "X", "email": "x@example.org", "role": 5}, "role"),
    ],
)
def test_bad_input_is_a_422_that_names_the_field(api: httpx.Client, body: dict[str, object], wrong: str) -> None:
    answer = api.post("/users/", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["parameter"] for error in answer.json()["errors"]] == [wrong]


def test_users_are_written_by_posts_only(api: httpx.Client, headrace: CommandLine, tmp_path: Path) -> None:
    assert api.delete("/datasets/users/race@example.org").status_code == 405
    lines = tmp_path / "users.jsonl"
    lines.write_text(json.dumps(GRACE))
    refused = headrace("push", "users", str(lines), expect=2)
    assert "users takes no records from sources: POST /users/ writes them" in refused.stderr


def test_status_topics_and_audit_show_users(api: httpx.Client, headrace: CommandLine) -> None:
    assert api.post("/users/", json={"name": "Seen", "email": "seen@example.org", "role": "user"}).status_code == 201
    assert headrace.status()["relay"]["state"] == "running"
    topics = {row["name"]: row for row in json.loads(headrace("topics", "--json").stdout)}
    assert topics["users.changed"]["written_by"] == "relay"
    assert "users.raw" not in topics
    eventually(lambda: found(api, "seen@example.org") == ["seen@example.org"], what="the user is indexed")

    def audited() -> bool:
        stores = json.loads(headrace("audit", "--deep", "--json").stdout)["deep"]["stores"]
        users = [store for store in stores if store["dataset"] == "users"]
        return len(users) == 2 and all(store["clean"] and store["compared"] for store in users)

    assert audited()


def test_a_document_that_was_lost_is_repaired(api: httpx.Client, headrace: CommandLine, settings: Settings) -> None:
    assert api.post("/users/", json={"name": "Lost", "email": "lost@example.org", "role": "user"}).status_code == 201
    eventually(lambda: found(api, "lost@example.org") == ["lost@example.org"], what="the user is indexed")
    url = f"{settings.elasticsearch_url}/{settings.named('users')}/_doc"
    httpx.delete(f"{url}/lost@example.org?refresh=true", trust_env=False).raise_for_status()
    httpx.put(f"{url}/ghost@example.org?refresh=true", json={"name": "Ghost"}, trust_env=False).raise_for_status()
    assert found(api, "lost@example.org") == []
    repaired = headrace("audit", "--repair", "--settle", "5").stdout
    assert "users lost@example.org: missing in elasticsearch" in repaired
    assert "users ghost@example.org: orphaned in elasticsearch" in repaired
    eventually(lambda: found(api, "lost@example.org") == ["lost@example.org"], what="the user is back")
