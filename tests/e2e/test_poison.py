"""A poisoned record of any kind lands in `failures` with its original bytes, and its neighbours go through."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from monitoring.lag import read_lag
from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from services.audits.audit import PartitionAudit, audit
from stores.postgres_engine import postgres_engine
from tests.e2e.stores import documents, rows, value
from tests.integration.publish_servers import Answer, http_server
from tests.processes import PROJECT, Pipeline, environment_of
from tests.waiting import eventually

ROLES = ("normalizer", "sink postgres", "sink elasticsearch")
REFUSED_BY_POSTGRES = "Robert'); DROP TABLE"


def customer(key: str, **fields: Any) -> dict[str, Any]:
    email = f"{key.lower().replace(' ', '.')}@example.org"
    data = {"customer_id": key, "first_name": "Ada", "last_name": "L", "email": email}
    return data | fields


def encoded(key: str) -> bytes:
    return json.dumps(customer(key)).encode()


def spoilt(**fields: Any) -> Callable[[str], bytes]:
    return lambda key: json.dumps(customer(key) | fields).encode()


class Poison(NamedTuple):
    """Makes a poisoned record of a key; and where that record must end."""

    make: Callable[[str], bytes | None]
    reason: str
    stage: str = "normalizer"


POISONS = {
    "bytes that are no JSON": Poison(lambda _: b"\x00\xff\xfe not JSON", "not_json"),
    "nothing at all": Poison(lambda _: b"", "not_json"),
    "JSON that is cut off": Poison(lambda _: b'{"customer_id": "X', "not_json"),
    "JSON that is no object": Poison(lambda _: b"[1, 2]", "not_an_object"),
    "a wrong type": Poison(spoilt(first_name={"first": "Ada"}), "wrong_type"),
    "a number out of range": Poison(spoilt(account_balance=10**30), "out_of_range"),
    "a number of a million digits": Poison(
        lambda key: encoded(key)[:-1] + b', "account_balance": ' + b"9" * 1_000_000 + b"}",
        "not_json",
    ),
    "a NUL": Poison(spoilt(last_name="Love\x00lace"), "nul_character"),
    "half a surrogate pair": Poison(spoilt(last_name="\ud83d"), "not_json"),
    "5 MB of text": Poison(spoilt(first_name="x" * 5_000_000), "too_long"),
    "deep nesting": Poison(lambda _: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not_json"),
    "a key twice": Poison(
        lambda key: b'{"customer_id": "other", ' + json.dumps(customer(key)).encode()[1:], "duplicate_key"
    ),
    "31 February": Poison(spoilt(date_of_birth="2024-02-31"), "date_form"),
    "a required field missing": Poison(spoilt(email=None), "required"),
    "an address that is taken": Poison(spoilt(email="good-0@example.org"), "email_conflict", "postgres"),
    "what Postgres refuses": Poison(spoilt(first_name=REFUSED_BY_POSTGRES), "postgres_refused", "postgres"),
}


def test_every_kind_of_poison_ends_in_failures_and_its_neighbours_in_every_store(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    # A rule that somebody has added to the table, and that our validation knows nothing of.
    rule = f"ALTER TABLE customers ADD CONSTRAINT no_names_like_this CHECK (first_name <> $${REFUSED_BY_POSTGRES}$$)"
    rows(settings, rule)
    published: dict[str, bytes | None] = {}
    batch: list[tuple[str, bytes | None]] = [("good-0", encoded("good-0"))]
    for number, (what, poison) in enumerate(POISONS.items(), start=1):
        published[what] = poison.make(what)
        batch += [(what, published[what]), (f"good-{number}", encoded(f"good-{number}"))]
    publish(settings, "customers.raw", batch)

    with Pipeline(settings, tmp_path, ROLES):
        eventually(lambda: covered(settings) == len(batch), what="every record has an outcome")
        good = value(settings, "SELECT count(*) FROM customers")
        assert good == len(POISONS) + 1
        eventually(lambda: documents(settings, "customers") == good, what="the good ones are indexed")
        eventually(lambda: settled(settings), what="nothing is in flight")
        audited = asyncio.run(audited_partitions(settings))

    failures = {row["key"]: row for row in rows(settings, "SELECT * FROM ingest_failures")}
    assert failures.keys() == POISONS.keys()
    found = {what: (row["stage"], row["reason"]) for what, row in failures.items()}
    assert found == {what: (poison.stage, poison.reason) for what, poison in POISONS.items()}
    assert [what for what, row in failures.items() if row["payload"] != published[what]] == [], "their original bytes"
    assert all(row["message"] for row in failures.values())
    assert all(row.clean for row in audited)
    assert sum(row.outcomes.get("failed", 0) for row in audited) == len(POISONS)


def test_what_only_elasticsearch_refuses_is_stored_and_a_failure_of_that_stage(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    # 200 characters fit the field; the key in UTF-8 is longer than the 512 bytes that Elasticsearch takes as an id.
    keys = ("one", "\U0001f600" * 200, "three")
    contents = [json.dumps({"source_id": key, "name": "n"}).encode() for key in keys]
    batch = [(f"push:{key}", content) for key, content in zip(keys, contents, strict=True)]
    publish(settings, "records.raw", batch)
    with Pipeline(settings, tmp_path, ROLES):
        eventually(lambda: documents(settings, "records") == 2, what="its neighbours are indexed")
        failed = "SELECT * FROM ingest_failures"
        (row,) = eventually(lambda: rows(settings, failed), what="it is a failure")
        eventually(lambda: settled(settings), what="nothing is in flight")
        audited = asyncio.run(audited_partitions(settings))
    assert (row["stage"], row["reason"], row["payload"]) == ("elasticsearch", "elasticsearch_refused", batch[1][1])
    assert value(settings, "SELECT count(*) FROM normalized_data") == 3
    assert sum(part.outcomes.get("inserted", 0) for part in audited) == 3, "each record counts once: it is stored"
    assert all(part.clean for part in audited)


def test_poison_that_is_pushed_or_in_a_page_of_an_api_is_accounted_for_and_its_neighbours_are_stored(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    five = spoilt(first_name="x" * 5_000_000)("five")
    six, twenty = spoilt(first_name="x" * 6_000_000)("six"), spoilt(first_name="x" * 20_000_000)("twenty")
    lines = [encoded("good-0"), five, encoded("good-1"), six, twenty, b"5 of 5", encoded("good-2")]
    (tmp_path / "large.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    bad = [
        rb'{"customer_id": "\ud83d"}',
        b'{"customer_id": NaN}',
        b'{"customer_id": "a\tb"}',
        rb'{"customer_id": "\q"}',
    ]
    page = b'{"data": [%b], "total_pages": 1}' % b", ".join([encoded("good-3"), *bad, encoded("good-4")])
    with Pipeline(settings, tmp_path, ROLES), http_server(lambda _: Answer(200, page)) as url:
        block = f'[sources.shop]\nkind = "api"\nurl = "{url}"\ndataset = "customers"\n'
        (tmp_path / "shop.toml").write_text(block)
        for words, counts in (
            (["push", "customers", str(tmp_path / "large.jsonl"), "--wait"], "3 stored (inserted 3), 4 failed"),
            (["run", "shop", "--sources", str(tmp_path / "shop.toml")], "2 stored (inserted 2), 4 failed"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "cli", *words],
                cwd=PROJECT, env=os.environ | environment_of(settings), capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert counts in done.stdout
        audited = asyncio.run(audited_partitions(settings))
    failures = rows(settings, "SELECT * FROM ingest_failures")
    found = {(row["reason"], row["payload"]) for row in failures}
    cut = {("record_too_large", value[:65_536]) for value in (six, twenty)}
    assert found == {("too_long", five), ("not_json", b"5 of 5"), *cut, *(("not_json", record) for record in bad)}
    assert [row["message"] for row in failures if "6,000," in row["message"]], "how large it was"
    assert value(settings, "SELECT count(*) FROM customers") == 5
    assert all(part.clean for part in audited)


def publish(settings: Settings, topic: str, batch: Sequence[tuple[str, bytes | None]]) -> None:
    """All to partition 0, so that they are neighbours."""
    producer = Producer(producer_config(settings))
    for key, content in batch:
        producer.produce(settings.named(topic), content, key.encode(), partition=0)
        producer.poll(0)
    assert producer.flush(60) == 0


def covered(settings: Settings) -> int:
    query = "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM coverage, unnest(ranges) AS r"
    return int(value(settings, query))


def settled(settings: Settings) -> bool:
    # The landing and Redis sinks do not run here.
    groups = {settings.named(group) for group in ("normalizer", "sink-postgres", "sink-elasticsearch")}
    return sum(row.lag for row in asyncio.run(read_lag(settings)) if row.group in groups) == 0


async def audited_partitions(settings: Settings) -> list[PartitionAudit]:
    engine = postgres_engine(settings)
    try:
        return await audit(settings, engine)
    finally:
        await engine.dispose()
