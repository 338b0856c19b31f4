"""Customers, as their contract has it: ingest, pages, single customers, conflicts, errors."""

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.settings import Settings
from tests.contract.api_process import ApiProcess, api_process
from tests.e2e.command_line import CommandLine
from tests.e2e.stores import rows
from tests.waiting import eventually

PROBLEM = {"type", "title", "status", "detail", "instance", "request_id"}
GONE = """
[sources.customers_api]
kind = "api"
url = "http://127.0.0.1:9/api/customers"
dataset = "customers"
retries = 0
"""


@pytest.fixture(scope="module", autouse=True)
def ingested(headrace: CommandLine) -> dict[str, Any]:
    """The first answer of `POST /api/ingest`."""
    answer = httpx.post(f"{headrace.settings().api_url}/api/ingest", timeout=120, trust_env=False)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture(scope="module")
def second_api(headrace: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with api_process(headrace, tmp_path_factory.mktemp("second"), {}) as client:
        yield client


def pushed(headrace: CommandLine, tmp_path: Path, *customers: dict[str, Any]) -> dict[str, Any]:
    """The run of these customers, pushed by hand."""
    file = tmp_path / "customers.jsonl"
    file.write_text("\n".join(json.dumps(one) for one in customers))
    answer: dict[str, Any] = json.loads(headrace("push", "customers", str(file), "--wait", "--json").stdout)["runs"][0]
    return answer


def person(key: str, **fields: Any) -> dict[str, Any]:
    return {"customer_id": key, "first_name": "Ada", "last_name": "Byron", "email": f"{key}@contract.example", **fields}


def test_ingest_answers_when_postgres_has_every_customer(ingested: dict[str, Any], settings: Settings) -> None:
    with httpx.Client(base_url=settings.mock_url, trust_env=False) as mock:
        total = mock.get("/api/customers?limit=1").json()["total"]
    assert ingested.pop("run_id")
    assert ingested == {"status": "success", "records_processed": total, "stored": total, "failed": 0}


def test_a_page_has_the_asked_number_of_whole_customers(api: httpx.Client) -> None:
    body = api.get("/api/customers", params={"page": 2, "limit": 5}).json()
    assert {"data", "total", "page", "limit"} <= set(body)
    assert (body["page"], body["limit"], len(body["data"])) == (2, 5, 5)
    assert {"customer_id", "first_name", "last_name", "email", "phone", "address", "date_of_birth", "account_balance",
            "created_at"} <= set(body["data"][0])  # fmt: skip


def test_page_1_and_limit_10_are_the_defaults(api: httpx.Client) -> None:
    body = api.get("/api/customers").json()
    assert (body["page"], body["limit"], len(body["data"])) == (1, 10, 10)
    assert body == api.get("/api/customers?page=1&limit=10").json()


@pytest.mark.parametrize("path", ["/api/customers", "/datasets/customers", "/datasets/records"])
@pytest.mark.parametrize(
    "wrong", ["limit=101", "limit=0", "limit=-1", "limit=ten", "limit=1.5", "limit=", "page=0", "page=x"]
)
def test_a_wrong_page_or_limit_is_a_400_that_names_it(api: httpx.Client, path: str, wrong: str) -> None:
    problem_of(api.get(f"{path}?{wrong}"), wrong.partition("=")[0])


@pytest.mark.parametrize("path", ["/data?", "/search?q=x&", "/runs?"])
@pytest.mark.parametrize("wrong", ["page_size=101", "page_size=0", "page_size=ten", "page=0", "page=1.0"])
def test_a_wrong_page_or_page_size_is_a_400_that_names_it(api: httpx.Client, path: str, wrong: str) -> None:
    problem_of(api.get(f"{path}{wrong}"), wrong.partition("=")[0])


@pytest.mark.parametrize("wrong", ["limit=101", "limit=ten", "page=0"])
def test_the_mock_server_refuses_a_wrong_page_or_limit_too(settings: Settings, wrong: str) -> None:
    answer = httpx.get(f"{settings.mock_url}/api/customers?{wrong}", trust_env=False)
    assert (answer.status_code, set(answer.json())) == (400, {"error", "message"})


def test_total_pages_is_right_at_exact_multiples_and_beside_them(
    api: httpx.Client, headrace: CommandLine, tmp_path: Path
) -> None:
    missing = -api.get("/api/customers?limit=1").json()["total"] % 100
    if missing:
        pushed(headrace, tmp_path, *(person(f"fill-{n}") for n in range(missing)))
    exact = api.get("/api/customers?limit=100").json()
    assert exact["total_pages"] * 100 == exact["total"]
    last = api.get(f"/api/customers?limit=100&page={exact['total_pages']}").json()
    assert (len(last["data"]), last["next_cursor"]) == (100, None)
    pushed(headrace, tmp_path, person("one-more"))
    more = api.get(f"/api/customers?limit=100&page={exact['total_pages'] + 1}").json()
    assert (more["total_pages"], len(more["data"])) == (exact["total_pages"] + 1, 1)
    for limit in (1, 3, 7, 99):
        body = api.get(f"/api/customers?limit={limit}").json()
        assert body["total_pages"] == math.ceil(body["total"] / limit)


def test_past_the_last_page_there_is_nothing(api: httpx.Client) -> None:
    body = api.get("/api/customers?page=1000000").json()
    assert body["data"] == []
    assert body["total"] > 0


def test_one_customer_by_id_and_a_404_that_names_who_is_missing(api: httpx.Client) -> None:
    assert api.get("/api/customers/CUST001").json()["customer_id"] == "CUST001"
    answer = api.get("/api/customers/NOBODY")
    assert answer.status_code == 404
    assert "NOBODY" in answer.json()["detail"]


def test_an_upsert_keeps_created_at_and_sets_updated_at_with_the_first_real_change(
    api: httpx.Client, headrace: CommandLine, tmp_path: Path
) -> None:
    def now() -> dict[str, Any]:
        body: dict[str, Any] = api.get("/datasets/customers/upserted").json()
        return body

    assert pushed(headrace, tmp_path, person("upserted"))["stored"] == 1
    first = now()
    assert first["created_at"] is not None
    assert first["updated_at"] is None
    assert pushed(headrace, tmp_path, person("upserted", first_name=" Ada "))["stored"] == 1
    assert now() == first
    assert pushed(headrace, tmp_path, person("upserted", first_name="Augusta"))["stored"] == 1
    second = eventually(lambda: now() if now()["first_name"] == "Augusta" else None, what="the cached read follows")
    assert second is not None
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["created_at"]


def test_an_email_that_another_customer_has_is_skipped_logged_and_kept_as_a_failure(
    api: httpx.Client, headrace: CommandLine, settings: Settings, tmp_path: Path
) -> None:
    mine, other = person("holder", email="Shared@contract.example"), person("taker", email="shared@contract.example")
    run = pushed(headrace, tmp_path, mine, other, person("beside"))
    assert (run["stored"], run["failed"]) == (2, 1)
    assert api.get("/api/customers/taker").status_code == 404
    assert api.get("/api/customers/holder").json()["email"] == "shared@contract.example"
    (failure,) = rows(settings, "SELECT reason, message, payload FROM ingest_failures WHERE key = 'taker'")
    assert failure["reason"] == "email_conflict"
    assert "holder" in failure["message"]
    assert json.loads(failure["payload"]) == other
    listed = api.get("/failures/items", params={"dataset": "customers", "key": "taker"}).json()
    assert listed["total"] == 1

    def logged() -> list[dict[str, Any]]:
        lines = (headrace.home / "logs" / "sink-postgres.log").read_text().splitlines()
        events = [json.loads(line) for line in lines if "records_refused" in line]
        return [event for event in events if "taker" in event["keys"]]

    assert eventually(logged, what="the conflict is in the log")[0]["reason"] == "email_conflict"


def test_of_two_ingests_at_once_in_two_processes_one_runs_and_the_other_is_told_which(
    api: httpx.Client, second_api: ApiProcess
) -> None:
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda client: client.post("/api/ingest"), [api, second_api]))
    done, refused = sorted(answers, key=lambda answer: answer.status_code)
    assert (done.status_code, refused.status_code) == (200, 409), [answer.text for answer in answers]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["run_id"] == done.json()["run_id"]
    # Either process knows the run.
    for client in (api, second_api):
        assert client.get(f"/api/ingest/{done.json()['run_id']}").json()["status"] == "success"


def test_a_source_that_is_down_is_a_502_and_a_failed_run(
    api: httpx.Client, headrace: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "gone.toml").write_text(GONE)
    before = api.get("/stats").json()
    with api_process(headrace, tmp_path, {"SOURCES_FILE": str(tmp_path / "gone.toml")}) as broken:
        answer = broken.post("/api/ingest")
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert "http://127.0.0.1:9/api/customers" in answer.json()["detail"]
    run = api.get(f"/runs/{answer.json()['run_id']}").json()
    assert (run["status"], run["trigger"], run["published"], run["stored"]) == ("failed", "api", 0, None)
    assert "cannot be reached" in run["failure_reason"]
    after = api.get("/stats").json()
    assert after["total_records_processed"] == before["total_records_processed"]
    assert after["run_count"] == before["run_count"] + 1


def problem_of(answer: httpx.Response, parameter: str) -> None:
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) >= PROBLEM
    assert problem["errors"][0]["parameter"] == parameter
    assert problem["request_id"] == answer.headers["x-request-id"]
