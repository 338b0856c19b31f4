"""`headrace audit --deep` and `--repair` on a running pipeline: stores are damaged by hand in every way."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import redis
from confluent_kafka import Producer

from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from tests.e2e.stores import rows
from tests.faults.load import load
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import Sent
from tests.processes import PLAIN, PROJECT, WORKERS, Pipeline, environment_of

KEYS = [f"C{number:03}" for number in range(40)]
CHANGED = "SELECT customer_id, updated_at FROM customers WHERE updated_at IS NOT NULL ORDER BY 1"


def customer(key: str, **fields: Any) -> bytes:
    data = {"customer_id": key, "first_name": "Ada", "last_name": "Lovelace", "email": f"{key}@example.org"}
    return msgspec.json.encode(data | fields)


@pytest.fixture(scope="module")
def stored(shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A pipeline at work, with customers in every store. A test leaves every store as Postgres says."""
    settings = shared_pipeline_settings
    with Pipeline(settings, tmp_path_factory.mktemp("logs"), WORKERS):
        producer = Producer(producer_config(settings))
        for key in KEYS:
            producer.produce(settings.named("customers.raw"), key=key, value=customer(key))
        assert producer.flush(30) == 0
        wait_until_settled(settings)
        yield settings


def audit(settings: Settings, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", "audit", *options],
        cwd=PROJECT,
        env=os.environ | environment_of(settings) | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def deep(settings: Settings, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and what is said about the stores."""
    ended = audit(settings, "--deep", "--json", *options)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)["deep"]


def differing(stores: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    return {one["store"]: one["keys"] for one in stores if one["dataset"] == "customers"}


def request(settings: Settings, method: str, path: str, **more: Any) -> None:
    url = f"{settings.elasticsearch_url}/{settings.named('customers')}{path}"
    httpx.request(method, url, timeout=60, trust_env=False, verify=PLAIN, **more).raise_for_status()


def cache_entry(settings: Settings, key: str) -> str:
    return f"{settings.named('cache')}:customers:{key}"


def test_a_postgres_whose_versions_fell_back_is_repaired_and_later_changes_get_through(stored: Settings) -> None:
    rows(stored, "UPDATE customers SET version = version - 30 WHERE version > 30")
    rows(stored, "SELECT setval('row_version', 10)")
    shown = audit(stored, "--repair")
    assert shown.returncode == 0, shown.stdout
    assert "10 given a new version" in shown.stdout
    assert "stores: all follow Postgres" in shown.stdout
    producer = Producer(producer_config(stored))
    for key in KEYS:
        producer.produce(stored.named("customers.raw"), key=key, value=customer(key, first_name="Augusta"))
    assert producer.flush(30) == 0
    wait_until_settled(stored)
    verify(stored)
    assert deep(stored)[0] == 0


def test_the_command_compares_shows_and_ends_with_1_only_where_a_store_differs(stored: Settings) -> None:
    clean = audit(stored, "--deep")
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "stores: all follow Postgres; 0 in flight" in clean.stdout
    request(stored, "PUT", "/_doc/GONE?refresh=true", json={})

    shown = audit(stored, "--deep")
    assert shown.returncode == 1
    assert "customers GONE: orphaned in elasticsearch" in shown.stdout
    assert "stores: 1 DIFFER" in shown.stdout
    code, said = deep(stored)
    assert (code, said["clean"], differing(said["stores"])) == (
        1,
        False,
        {"elasticsearch": {"GONE": "orphaned"}, "redis": {}},
    )
    assert [one["compared"] for one in said["stores"] if one["dataset"] == "customers"] == [40, 40]
    without = audit(stored, "--deep", ELASTICSEARCH_URL="none")
    assert without.returncode == 0
    assert "elasticsearch" not in without.stdout
    assert "redis" not in audit(stored, "--deep", ELASTICSEARCH_URL="none", REDIS_URL="none").stdout
    request(stored, "DELETE", "/_doc/GONE?refresh=true")


def test_every_damage_in_every_store_is_reported_repaired_and_gone(stored: Settings) -> None:
    changed = rows(stored, CHANGED)
    # Elasticsearch: one document deleted, one that belongs to no row, one that is ahead, and the row of one moved on.
    request(stored, "DELETE", "/_doc/C000")
    request(stored, "PUT", "/_doc/GONE?version=70&version_type=external", json={})
    request(stored, "PUT", "/_doc/C001?version=9000&version_type=external", json={"customer_id": "C001"})
    rows(stored, "UPDATE customers SET version = nextval('row_version') WHERE customer_id IN ('C002', 'C010')")
    entries: dict[str, dict[str, int | bytes]] = {
        "C010": {"version": 1, "data": b"{}"},
        "C011": {"version": 8000, "data": b"{}"},
        "C012": {"floor": 10_000},
        "C013": {"version": 0, "data": b""},
        "LOST": {"version": 12_000, "data": b"{}"},
    }
    with redis.Redis.from_url(str(stored.plain_redis_url)) as client:
        for key, entry in entries.items():
            client.hset(cache_entry(stored, key), mapping=dict(entry))
            client.persist(cache_entry(stored, key))  # a floor that was there would take it along when it expires

    code, said = deep(stored)
    assert code == 1
    elasticsearch = {"C000": "missing", "C001": "newer", "C002": "stale", "C010": "stale", "GONE": "orphaned"}
    cache = {"C010": "stale", "C011": "newer", "C012": "newer", "C013": "stale", "LOST": "orphaned"}
    assert differing(said["stores"]) == {"elasticsearch": elasticsearch, "redis": cache}

    code, said = deep(stored, "--repair")
    assert differing(said["found"]) == {"elasticsearch": elasticsearch, "redis": cache}
    assert (code, said["clean"]) == (0, True)
    total = {name: sum(one[name] for one in said["repairs"]) for name in ("republished", "renumbered", "deleted")}
    # C000, C002, C010, C013; then C000 again, because Elasticsearch remembers its deletion as newer.
    assert total == {"republished": 4, "renumbered": 4, "deleted": 2}
    assert [row["version"] > 12_000 for row in rows(stored, "SELECT nextval('row_version') AS version")] == [True]
    assert rows(stored, CHANGED) == changed
    verify(stored)
    again = audit(stored, "--repair")
    assert again.returncode == 0
    assert "repair of" not in again.stdout


def test_rows_that_were_written_past_the_count_are_reported_and_counted_again(stored: Settings) -> None:
    bucket = "table_name = 'customers' AND bucket = (SELECT min(bucket) FROM row_counts WHERE table_name = 'customers')"
    rows(stored, f"UPDATE row_counts SET rows = rows + 2 WHERE {bucket}")  # noqa: S608
    shown = audit(stored, "--deep")
    assert shown.returncode == 1
    assert "customers: counted as 42 rows, and there are 40\n" in shown.stdout
    code, said = deep(stored)
    assert (code, said["clean"], said["recounted"]) == (1, False, False)
    assert said["miscounts"] == [{"dataset": "customers", "kept": 42, "rows": 40}]
    code, said = deep(stored, "--repair")
    assert (code, said["clean"], said["recounted"]) == (0, True, True)
    assert "miscounts" not in deep(stored)[1]


def test_an_index_that_was_deleted_comes_back_with_every_document(stored: Settings) -> None:
    url = f"{stored.elasticsearch_url}/{stored.named('customers')}-v1"
    httpx.delete(url, timeout=60, trust_env=False, verify=PLAIN).raise_for_status()
    code, said = deep(stored)
    assert (code, differing(said["stores"])["elasticsearch"]) == (1, dict.fromkeys(KEYS, "missing"))
    assert deep(stored, "--repair")[0] == 0
    verify(stored)


def test_records_that_are_being_stored_raise_no_alarm(stored: Settings) -> None:
    def changes() -> Iterator[Sent]:
        for number in range(1_000_000):
            key = f"C{number % 500:03}"
            deleted = number % 7 == 0
            yield Sent(key.encode(), None if deleted else customer(key, first_name=f"Ada {number}"))

    with load(stored, changes(), per_second=200) as running:
        for settle in ("0", "1", "30"):
            code, said = deep(stored, "--settle", settle)
            assert (code, [one["keys"] for one in said["stores"] if one["keys"]]) == (0, [])
        assert running.is_running()
        assert running.stop() > 200
    wait_until_settled(stored)
    code, said = deep(stored)
    assert (code, [one["in_flight"] for one in said["stores"]]) == (0, [0] * len(said["stores"]))
