"""Rejected records are worked on until each has an end: corrected, sent again, parked, or discarded. Stored ones that
were read wrongly are read again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import TopicPartition

from runtime.kafka.topic_admin import admin_client, end_offsets
from runtime.settings import Settings
from tests.e2e.headrace import Headrace, headrace_of
from tests.e2e.stores import rows, value
from tests.processes import PROJECT, Pipeline, environment_of
from tests.waiting import eventually

CSV = "id,full name,price\n7,,12.50\n8,Saw,oops\n"


@pytest.fixture(scope="module")
def at_work(shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with Pipeline(
        shared_pipeline_settings,
        tmp_path_factory.mktemp("logs"),
        ("normalizer", "sink postgres", "sink landing", "api"),
    ) as running:
        yield running


@pytest.fixture
def short_pipeline(at_work: Pipeline) -> Iterator[Pipeline]:
    """Workers from a raw topic to Postgres, and the API; no record and no failure is stored yet."""
    yield at_work
    rows(at_work.settings, "TRUNCATE customers, normalized_data, ingest_failures, failure_replays CASCADE")


@pytest.fixture
def failures(short_pipeline: Pipeline) -> Headrace:
    """Runs `headrace` against it."""
    return headrace_of(short_pipeline.settings)


def customer(key: str, **fields: Any) -> str:
    data = {"customer_id": key, "first_name": "Ada", "last_name": "L", "email": f"{key.lower()}@example.org"}
    return json.dumps(data | fields)


def answer(run: subprocess.CompletedProcess[str]) -> Any:
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout)


def push(headrace: Headrace, *lines: str) -> None:
    run = headrace("push", "customers", "-", "--wait", "--json", stdin="\n".join(lines) + "\n")
    assert run.returncode == 0, run.stdout + run.stderr


def listed(headrace: Headrace, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer(headrace("failures", "list", "--flat", "--json", *options))
    return found


def test_a_record_is_corrected_and_stored_and_one_that_stays_wrong_is_parked(
    short_pipeline: Pipeline, failures: Headrace
) -> None:
    settings = short_pipeline.settings
    push(failures, customer("P1", email="nobody"), customer("P2", email="nowhere"), "not json")
    groups = answer(failures("failures", "list", "--json"))
    assert {(group["dataset"], group["reason"], group["count"]) for group in groups} == {
        ("customers", "email_form", 2),
        ("customers", "not_json", 1),
    }
    by_key = {row["key"]: row["id"] for row in listed(failures)}

    refused = failures("failures", "edit", str(by_key["P1"]), "--set", "email=still wrong")
    assert refused.returncode == 1
    assert "email" in refused.stderr
    assert value(settings, "SELECT count(*) FROM ingest_failures WHERE edited_payload IS NOT NULL") == 0
    edited = answer(failures("failures", "edit", str(by_key["P1"]), "--set", "email=p1@example.org", "--json"))
    assert (edited["valid"], json.loads(edited["after"]["content"])["email"]) == (True, "p1@example.org")

    plan = answer(failures("failures", "retry", "--dataset", "customers", "--dry-run", "--json"))
    expected = {(line["reason"], line["expected"], line["sent"]): line["count"] for line in plan["lines"]}
    wrong = {("email_form", "invalid", False): 1, ("not_json", "invalid", False): 1}
    assert expected == {("email_form", "valid", True): 1} | wrong
    shown = failures("failures", "show", str(by_key["P2"])).stdout
    assert shown.count("is not an e-mail address") == 1, "what is wrong is said once"
    assert value(settings, "SELECT count(*) FROM failure_replays") == 0

    retried = answer(failures("failures", "retry", str(by_key["P1"]), "--json"))
    assert retried["outcomes"] == {"stored": 1}
    assert value(settings, "SELECT email FROM customers WHERE customer_id = 'P1'") == "p1@example.org"
    shown = answer(failures("failures", "show", str(by_key["P1"]), "--json"))
    assert [entry["action"] for entry in shown["history"]] == ["edited", "retried", "stored"]
    assert json.loads(shown["history"][0]["before"]["content"])["email"] == "nobody"

    current = by_key["P2"]
    for attempt in range(1, settings.replay_limit + 1):
        again = failures("failures", "retry", str(current), "--force", "--json")
        assert again.returncode == 1
        assert json.loads(again.stdout)["outcomes"] == {"failed_again": 1}
        current = answer(failures("failures", "show", str(current), "--json"))["failed_again_as"]
        successor = answer(failures("failures", "show", str(current), "--json"))
        assert (successor["attempts"], successor["key"]) == (attempt, "P2")
    assert successor["state"] == "parked"
    parked = failures("failures", "retry", str(current))
    assert parked.returncode == 1
    assert "--force" in parked.stderr
    assert "failure" in failures("failures", "retry", str(by_key["P2"])).stderr

    discarded = failures("failures", "discard", str(current), "--reason-text", "a test of the supplier")
    assert discarded.returncode == 0, discarded.stderr
    assert [row["reason"] for row in listed(failures)] == ["not_json"]
    traces = rows(settings, "SELECT who, note FROM failure_actions WHERE action = 'discarded'")
    assert [trace["note"] for trace in traces] == ["a test of the supplier"]
    assert "@" in traces[0]["who"]


def test_a_newer_record_is_not_overwritten_unless_forced(short_pipeline: Pipeline, failures: Headrace) -> None:
    settings = short_pipeline.settings
    push(failures, customer("N1", email="nobody"))
    push(failures, customer("N1", last_name="Newer"))
    (failure,) = listed(failures)
    number = str(failure["id"])
    older = answer(failures("failures", "edit", number, "--set", "email=n1@example.org", "--json"))
    assert older["valid"]
    refused = failures("failures", "retry", number)
    assert refused.returncode == 1
    assert "newer record" in refused.stderr
    skipped = json.loads(failures("failures", "retry", "--key", "N1", "--json").stdout)
    assert (skipped["job"]["sent"], skipped["job"]["skipped"]) == (0, 1)
    assert value(settings, "SELECT last_name FROM customers") == "Newer"
    forced = answer(failures("failures", "retry", number, "--force", "--json"))
    assert forced["outcomes"] == {"stored": 1}
    assert value(settings, "SELECT last_name FROM customers") == "L"


def test_the_mapping_of_a_csv_goes_with_its_replay(
    short_pipeline: Pipeline, failures: Headrace, tmp_path: Path
) -> None:
    settings = short_pipeline.settings
    file = tmp_path / "sales.csv"
    file.write_text(CSV)
    mapping = ("--map", "source_id=id", "--map", "name=full name", "--map", "value=price")
    published = failures("publish", "csv", str(file), *mapping, "--wait", "--json")
    assert published.returncode == 0, published.stdout + published.stderr
    ids = {row["key"]: str(row["id"]) for row in listed(failures)}
    assert set(ids) == {"sales:7", "sales:8"}
    for key, correction in (("sales:7", "name=Hammer"), ("sales:8", "value=9.90")):
        edited = answer(failures("failures", "edit", ids[key], "--set", correction, "--json"))
        assert edited["valid"]
    retried = answer(failures("failures", "retry", "--source", "sales", "--json"))
    assert retried["outcomes"] == {"stored": 2}
    stored = rows(settings, "SELECT source, source_name, source_id, name FROM normalized_data ORDER BY source_id")
    assert [tuple(row.values()) for row in stored] == [("csv", "sales", "7", "Hammer"), ("csv", "sales", "8", "Saw")]


def test_the_api_lists_edits_retries_and_refuses(short_pipeline: Pipeline, failures: Headrace) -> None:
    push(failures, customer("A1", email="nobody"), customer("A2", email="nobody"))
    push(failures, customer("A3", email="taken@example.org"), customer("A4", email="taken@example.org"))
    with httpx.Client(base_url=short_pipeline["api"].url, trust_env=False, timeout=30) as api:
        groups = api.get("/failures").raise_for_status().json()["data"]
        assert {(group["stage"], group["reason"], group["count"]) for group in groups} == {
            ("normalizer", "email_form", 2),
            ("postgres", "email_conflict", 1),
        }
        items = api.get("/failures/items", params={"reason": "email_form", "limit": 1}).json()
        assert (items["total"], len(items["data"])) == (2, 1)
        older = api.get("/failures/items", params={"reason": "email_form", "before": items["next_before"]}).json()
        second, first = items["data"][0]["id"], older["data"][0]["id"]

        wrong = api.post(f"/failures/{first}/edit", json={"set": {"email": "wrong"}})
        assert (wrong.status_code, wrong.json()["problems"][0]["field"]) == (409, "email")
        api.post(f"/failures/{first}/edit", json={"set": {"email": "a1@example.org"}}).raise_for_status()
        started = api.post(f"/failures/{first}/retry")
        assert started.status_code == 202, started.text
        location = started.headers["location"]
        eventually(lambda: api.get(location).json()["outcomes"] == {"stored": 1}, what="the job's record is stored")
        repeated = api.post(f"/failures/{first}/retry")
        assert (repeated.status_code, repeated.headers["content-type"]) == (409, "application/problem+json")

        request_id = {"X-Request-ID": "a-clerk"}
        gone = api.post(f"/failures/{second}/discard", json={"reason_text": "test"}, headers=request_id).json()
        assert (gone["state"], gone["history"][-1]["who"]) == ("discarded", "api:a-clerk")

        (conflict,) = api.get("/failures/items", params={"reason": "email_conflict"}).json()["data"]
        api.post(f"/failures/{conflict['id']}/edit", json={"set": {"email": "a4@example.org"}}).raise_for_status()
        job = api.post("/failures/retry", json={"reasons": ["email_conflict"]}).json()
        outcome = f"/failures/jobs/{job['id']}"
        eventually(lambda: api.get(outcome).json()["outcomes"] == {"stored": 1}, what="the conflict is solved")
        assert value(short_pipeline.settings, "SELECT count(*) FROM customers") == 3
        assert api.get("/failures/999999").status_code == 404
        assert api.post("/failures/retry", json={}).status_code == 422


def test_a_replay_job_is_paused_resumed_and_cancelled_over_http(short_pipeline: Pipeline, failures: Headrace) -> None:
    push(failures, *[customer(f"J{number}", email="nobody") for number in range(60)])
    with httpx.Client(base_url=short_pipeline["api"].url, trust_env=False, timeout=30) as api:
        begun = api.post("/failures/retry", json={"reasons": ["email_form"], "rate": 10, "force": True})
        assert begun.status_code == 202, begun.text
        job = begun.headers["location"]
        eventually(lambda: api.get(job).json()["sent"] > 0, what="the job is under way")
        assert api.post(f"{job}/resume").status_code == 409, "it is being run already"

        api.post(f"{job}/pause").raise_for_status()
        eventually(lambda: not api.get(job).json()["attended"], what="the job stands still")
        paused = api.get(job).json()
        assert paused["state"] == "paused"
        assert paused["sent"] < 60

        assert api.post(f"{job}/resume").status_code == 202
        eventually(lambda: api.get(job).json()["sent"] > paused["sent"], what="the job goes on")
        cancelled = api.post(f"{job}/cancel").raise_for_status().json()
        assert cancelled["state"] == "cancelled"
        eventually(lambda: not api.get(job).json()["attended"], what="nobody runs it any more")
        assert api.post(f"{job}/pause").status_code == 409

        ended = api.get(job).json()
        failed_again = eventually_failed_again(api, job, ended["sent"])
        assert ended["outcomes"].get("queued", 0) == 0
        # What was sent has failed once more, as a failure of its own; the others are open as they were.
        assert api.get("/failures/items", params={"limit": 1}).json()["total"] == 60 - ended["sent"] + failed_again


def eventually_failed_again(api: httpx.Client, job: str, sent: int) -> int:
    eventually(
        lambda: api.get(job).json()["outcomes"].get("failed_again", 0) == sent,
        what="all that was sent has failed again",
    )
    return sent


def test_a_job_whose_process_was_killed_is_taken_up_again_and_every_failure_is_sent(
    short_pipeline: Pipeline, failures: Headrace
) -> None:
    push(failures, *[customer(f"K{number}", email="nobody") for number in range(60)])
    retry = [
        sys.executable,
        "-m",
        "cli",
        "failures",
        "retry",
        "--reason",
        "email_form",
        "--force",
        "--rate",
        "10",
        "--json",
    ]
    process = subprocess.Popen(
        retry, cwd=PROJECT, env=os.environ | environment_of(short_pipeline.settings), stdout=subprocess.DEVNULL
    )
    try:
        sent = "SELECT coalesce(max(sent), 0) FROM failure_replays"
        eventually(lambda: value(short_pipeline.settings, sent) > 0, what="the job is under way")
    finally:
        process.kill()
        process.wait()
    (job,) = answer(failures("failures", "jobs", "--json"))
    eventually(
        lambda: not answer(failures("failures", "jobs", "--json"))[0]["attended"], what="Postgres sees that it is gone"
    )
    assert job["sent"] < 60

    resumed = failures("failures", "retry", "--resume", str(job["id"]), "--json")
    assert resumed.returncode == 1, "none of them is right yet, and scripts must see it"
    done = json.loads(resumed.stdout)
    assert (done["job"]["state"], done["job"]["sent"]) == ("done", 60)
    assert done["outcomes"] == {"failed_again": 60}
    ids = value(
        short_pipeline.settings,
        "SELECT count(DISTINCT replayed_offset::text || replayed_partition) FROM ingest_failures",
    )
    assert ids == 60


SHOP = """id,code,full name,price,net
1,h1,Hammer,1.00,0.50
2,s2,Saw,2.00,1.50
3,t3,Tongs,3.00,2.50
4,,Drill,4.00,3.50
5,Nail,Nail,5.00,4.50
6,x6,,6.00,5.50
"""


def test_reprocessing_mends_records_that_a_wrong_mapping_has_stored(
    short_pipeline: Pipeline, failures: Headrace, tmp_path: Path
) -> None:
    settings, sources = short_pipeline.settings, tmp_path / "sources.toml"
    (tmp_path / "shop.csv").write_text(SHOP)

    def declare(**mapping: str) -> None:
        lines = "".join(f'{field} = "{column}"\n' for field, column in {"source_id": "id", **mapping}.items())
        block = '[sources.shop]\nkind = "csv"\npath = "shop.csv"\ndataset = "records"\n[sources.shop.mapping]\n'
        sources.write_text(block + lines)

    def reprocess(*options: str) -> dict[str, Any]:
        words = ("reprocess", "records", "--source", "shop", "--json", *options)
        run = failures(*words, SOURCES_FILE=str(sources))
        assert (run.returncode, run.stderr) == (1, ""), run.stdout
        told: dict[str, Any] = json.loads(run.stdout)
        assert told["invalid"] == {"required": 1}, "that is why it is no success"
        return told

    def stored() -> dict[str, tuple[str, str]]:
        query = "SELECT source_id, name, value::text FROM normalized_data WHERE source_name = 'shop'"
        return {row["source_id"]: (row["name"], row["value"]) for row in rows(settings, query)}

    declare(name="code", value="price")
    answer(failures("run", "shop", "--json", SOURCES_FILE=str(sources)))
    newer = tmp_path / "newer.csv"
    newer.write_text("id,full name,price,net\n2,Better saw,9.00,8.50\n")
    mapping = ("--map", "source_id=id", "--map", "name=full name", "--map", "value=price")
    answer(failures("publish", "csv", str(newer), "--source", "shop", *mapping, "--wait", "--json"))
    answer(failures("push", "records", "-", "--delete", "--source", "shop", "--wait", "--json", stdin="shop:3\n"))
    before = stored()
    assert {key: name for key, (name, _) in before.items()} == {"1": "h1", "2": "Better saw", "5": "Nail", "6": "x6"}

    declare(name="full name", value="price")
    planned = reprocess("--dry-run")
    assert planned["forecast"] == {"changed": 2, "unchanged": 2, "superseded": 2}
    assert (planned["topic"], planned["landing"], planned["sent"], planned["deletes"]) == (8, 0, 7, 1)
    assert planned["examples"][0]["key"] == "shop:6"
    assert stored() == before
    assert reprocess()["outcomes"] == {"inserted": 1, "updated": 1, "unchanged": 3, "superseded": 2}
    mended = before | {"1": ("Hammer", before["1"][1]), "4": ("Drill", "4.0000")}
    assert stored() == mended, "6 is invalid now, and stays"
    assert [row["state"] for row in rows(settings, "SELECT state FROM ingest_failures")] == ["released"]

    topic = settings.named("records.raw")
    landed = (
        "SELECT count(*) FROM (TABLE raw_csv_data UNION ALL TABLE raw_api_data) AS l WHERE topic LIKE '%records.raw'"
    )
    ends = end_offsets(settings, [topic])
    eventually(lambda: value(settings, landed) == sum(ends.values()), what="all has landed")
    upto = [TopicPartition(topic, place.partition, end) for place, end in ends.items()]
    admin = admin_client(settings)  # kept, or the request is cancelled with it
    for gone in admin.delete_records(upto).values():
        gone.result()
    declare(name="full name", value="net")
    again = reprocess()
    assert (again["topic"], again["landing"]) == (0, 8)
    assert again["outcomes"] == {"updated": 4, "unchanged": 1, "superseded": 2}
    nets = {"1": "0.5000", "2": "8.5000", "4": "3.5000", "5": "4.5000"}
    assert stored() == {key: (name, nets.get(key, worth)) for key, (name, worth) in mended.items()}
    assert answer(failures("audit", "--wait", "30", "--json"))["reprocessed"]["updated"] == 5


def test_reprocessing_refuses_wrong_arguments_and_names_the_way_out(failures: Headrace, tmp_path: Path) -> None:
    broken = tmp_path / "sources.toml"
    broken.write_text('[sources.shop]\nkind = "csv"\n')
    for words, said in (
        (("nothing",), "customers, orders, records"),
        (("users",), "POST /users/"),
        (("records", "--since", "soon"), "expected e.g. 30m"),
        (("records", "--source", "shop"), "[sources.shop]"),
    ):
        run = failures("reprocess", *words, SOURCES_FILE=str(broken))
        assert (run.returncode, said in run.stderr) == (2, True), run.stdout + run.stderr
    unknown = failures("reprocess", "records", "--source", "nosuch", "--dry-run", SOURCES_FILE=str(broken))
    assert (unknown.returncode, "'nosuch'" in unknown.stderr) == (1, True), unknown.stdout + unknown.stderr
