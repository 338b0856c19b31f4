"""A forgotten person is in no store and no log any more, and nothing brings them back."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from runtime.settings import Settings
from tests.e2e.headrace import Headrace, headrace_of
from tests.e2e.stores import documents, rows, value
from tests.processes import WORKERS, Pipeline
from tests.waiting import eventually

ADA = {
    "customer_id": "ADA-1815",
    "first_name": "Augusta",
    "last_name": "Kingsworth",
    "email": "Augusta.Kingsworth@example.org",
    "phone": "+44 20 7946 0018",
    "address": "12 Saint Jamesplatz",
}
TRACES = ("ada-1815", "augusta", "kingsworth", "7946 0018", "442079460018", "jamesplatz", "augusta.kingsworth")


@pytest.fixture(scope="module")
def pipeline(shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    logs = tmp_path_factory.mktemp("pipeline")
    with Pipeline(shared_pipeline_settings, logs, (*WORKERS, "relay", "api")) as running:
        yield running


@pytest.fixture
def headrace(pipeline: Pipeline) -> Headrace:
    return headrace_of(pipeline.settings)


def push(headrace: Headrace, dataset: str, *records: object, source: str = "shop") -> None:
    lines = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in records)
    pushed = headrace("push", dataset, "-", "--wait", "--source", source, stdin=lines)
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr


def ingest(headrace: Headrace, *more: str) -> None:
    """All that a source says of the person, and of others."""
    other = ADA | {"customer_id": "BOB-1", "email": "bob@example.org", "first_name": "Bob", "last_name": "B"}
    other |= {"phone": "", "address": ""}
    push(
        headrace,
        "customers",
        ADA,
        other,
        ADA | {"email": "no address"},
        "ADA-1815;Augusta;Kingsworth;augusta.kingsworth@example.org",
        *more,
    )
    order = {"customer_id": "ADA-1815", "product": "Pen", "quantity": 1, "price": "2", "order_date": "2024-01-31"}
    push(
        headrace,
        "orders",
        order | {"order_id": "O-1"},
        order | {"order_id": "O-2", "price": "much"},
        order | {"order_id": "O-3", "customer_id": "BOB-1"},
    )


def everything(settings: Settings) -> str:
    """Every row of every table, every document and everything in Redis, as text in lower case."""
    columns = rows(
        settings,
        """SELECT table_name AS name, column_name AS column, data_type = 'bytea' AS bytes
        FROM information_schema.columns WHERE table_schema = 'public'""",
    )
    found = []
    for column in columns:
        shown = f'"{column["column"]}"' if column["bytes"] else f'"{column["column"]}"::text'
        for row in rows(settings, f'SELECT {shown} AS shown FROM "{column["name"]}"'):  # noqa: S608
            content = row["shown"] or b""
            found.append(content.decode("utf-8", "replace") if isinstance(content, bytes) else content)
    index = f"{settings.elasticsearch_url}/{settings.named('')}*"
    httpx.post(f"{index}/_refresh", timeout=30, trust_env=False).raise_for_status()
    found.append(httpx.get(f"{index}/_search?size=1000", timeout=30, trust_env=False).raise_for_status().text)
    with redis.Redis.from_url(settings.plain_redis_url or "", decode_responses=True) as cache:
        found += [
            f"{key} {cache.hgetall(key) if cache.type(key) == 'hash' else cache.get(key)}"  # else a count of requests
            for key in cache.scan_iter(f"*{settings.namespace}*")
        ]
    return "\n".join(found).lower()


def left_of_ada(settings: Settings) -> list[str]:
    text = everything(settings)
    return [trace for trace in TRACES if trace in text]


def clean(headrace: Headrace) -> None:
    audit = headrace("audit", "--deep", "--wait", "60", "--json")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_a_customer_is_erased_everywhere_and_no_ingest_and_no_retry_brings_them_back(
    pipeline: Pipeline, headrace: Headrace, tmp_path: Path
) -> None:
    settings = pipeline.settings
    ingest(headrace, '{"mail": "augusta.kingsworth@example.org", "cut')
    with httpx.Client(base_url=pipeline["api"].url, trust_env=False) as api:
        for _ in range(2):
            assert api.get("/api/customers/ADA-1815").status_code == 200
    eventually(lambda: documents(settings, "customers") == 2, what="both are indexed")
    landed = "SELECT count(*) FROM raw_api_data"
    eventually(lambda: value(settings, landed) == 8, what="all have landed")
    failure = value(settings, "SELECT min(id) FROM ingest_failures WHERE key = 'ADA-1815'")
    edited = headrace("failures", "edit", str(failure), "--set", "email=augusta.kingsworth@example.org")
    assert edited.returncode == 0, edited.stderr
    assert set(left_of_ada(settings)) == set(TRACES)

    foretold = headrace("forget", " ADA-1815", "--dry-run", "--json")
    assert foretold.returncode == 0, foretold.stdout + foretold.stderr
    assert set(left_of_ada(settings)) == set(TRACES), "a dry run erases nothing"
    for point in ("forgetting_begun", "forgetting_texts_erased"):
        assert headrace("forget", "ADA-1815", HEADRACE_CRASH_AT=point).returncode == -9
    done = headrace("forget", "ADA-1815", "--json", "--wait", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["left"] == {}
    assert told["followers"] == {"elasticsearch": "gone", "redis": "gone"}
    kept = {topic["topic"].removeprefix(settings.named("")) for topic in told["topics"]}
    assert kept == {
        "failures",
        *(f"{name}.{kind}" for name in ("customers", "orders") for kind in ("raw", "clean", "changed")),
    }
    assert all(topic["until"] for topic in told["topics"])
    assert left_of_ada(settings) == []
    [trail] = rows(settings, "SELECT erased FROM forgotten")
    erased, expected = json.loads(trail["erased"]), json.loads(foretold.stdout)["erased"]
    assert {table: erased.get(table, 0) for table in expected} == expected
    assert (erased["customers"], erased["orders"], erased["ingest_failures"]) == (1, 1, 4)
    assert value(settings, "SELECT count(*) FROM customers") == 1
    assert value(settings, "SELECT count(*) FROM orders") == 1
    clean(headrace)

    deleted = value(settings, "SELECT sum(deleted) FROM coverage")
    ingest(headrace)
    retried = headrace("failures", "retry", str(failure))
    assert retried.returncode != 0
    eventually(lambda: value(settings, landed) >= 4, what="what else came has landed")
    assert value(settings, "SELECT sum(deleted) FROM coverage") == deleted + 5
    clean(headrace)
    assert left_of_ada(settings) == []
    for role in pipeline.processes:
        log = (Path(pipeline[role]._log)).read_text().lower()
        assert [trace for trace in TRACES if trace in log] == [], role


def test_a_user_is_erased_and_may_sign_up_again(pipeline: Pipeline, headrace: Headrace) -> None:
    settings = pipeline.settings
    user = {"name": "Grace Brewster", "email": "Grace.Brewster@example.org", "role": "admin"}
    with httpx.Client(base_url=pipeline["api"].url, trust_env=False) as api:
        assert api.post("/users/", json=user).status_code == 201
        assert api.get("/users/grace.brewster@example.org").status_code == 200
        eventually(lambda: documents(settings, "users") == 1, what="the user is indexed")
        done = headrace("forget", "Grace.Brewster@example.org", "--dataset", "users", "--wait", "60", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "brewster" not in everything(settings)
        assert api.get("/users/grace.brewster@example.org").status_code == 404
        assert api.post("/users/", json=user).status_code == 201
    clean(headrace)


def test_what_was_undone_is_stored_again(pipeline: Pipeline, headrace: Headrace) -> None:
    settings = pipeline.settings
    eve = {"customer_id": "EVE-00001", "first_name": "E", "last_name": "V", "email": "eve@example.org"}
    push(headrace, "customers", eve)
    told = json.loads(headrace("forget", "EVE-00001", "--json", "--wait", "60").stdout)
    found = "SELECT count(*) FROM customers WHERE customer_id = 'EVE-00001'"
    push(headrace, "customers", eve)
    assert value(settings, found) == 0
    assert headrace("forget", "--undo", told["hash"][:10]).returncode == 0
    push(headrace, "customers", eve)
    assert value(settings, found) == 1
    listed = json.loads(headrace("forget", "--list", "--json").stdout)
    assert "eve" not in json.dumps(listed).lower()
