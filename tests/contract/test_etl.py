"""ETL runs over API, CSV and more, as their contract has it: health, stats, data, the command line, the settings."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.settings import Settings
from tests.contract.api_process import api_process, environment_without
from tests.e2e.command_line import CommandLine
from tests.integration.publish_servers import Answer, Request, http_server
from tests.processes import PROJECT, free_port
from tests.waiting import eventually

SAYINGS = [
    {"n": "1", "title": "Müller's 100% Café", "body": 'O\'Brien said "so_what"'},
    {"n": "2", "title": "1000 sowhat", "body": "plain"},
]


@pytest.fixture(scope="module")
def sources(headrace: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables that name sources of this file's own: sayings (API) and letters (CSV), both run once."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "letters.csv").write_text("no;letter\n" + "".join(f"{n};letter {n}\n" for n in range(25)))

    def answer(request: Request) -> Answer:
        if request.headers.get("x-api-key") != "s3cret":
            return Answer(401, b'{"error": "wrong key"}')
        return Answer(200, json.dumps(SAYINGS).encode())

    with http_server(answer) as url:
        (folder / "etl.toml").write_text(f"""
[sources.sayings]
kind = "api"
url = "{url}/sayings"
api_key = true
dataset = "records"
map = {{ source_id = "n", name = "title", description = "body" }}
pagination = {{ style = "none" }}

[sources.letters]
kind = "csv"
path = "letters.csv"
dataset = "records"
map = {{ source_id = "no", name = "letter" }}
""")
        variables = {"SOURCES_FILE": str(folder / "etl.toml"), "API_KEY": "s3cret"}
        run = CommandLine(headrace.home, {**headrace.variables, **variables})("run", "--json")
        assert json.loads(run.stdout)["ok"]
        yield variables


@pytest.fixture(scope="module")
def etl(headrace: CommandLine, sources: dict[str, str]) -> CommandLine:
    """`headrace` with these sources."""
    return CommandLine(headrace.home, {**headrace.variables, **sources})


def test_health_tells_of_the_database_the_latest_run_and_every_component(api: httpx.Client, etl: CommandLine) -> None:
    etl("run", "letters")
    answer = api.get("/health")
    body = answer.json()
    assert answer.status_code == 200
    assert (body["status"], body["db_connected"], body["etl_status"]) == ("healthy", True, "success")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z", body["last_etl_run"])
    assert body["last_etl_run"] == api.get(f"/runs/{body['last_run_id']}").json()["finished_at"]
    assert {name: one["status"] for name, one in body["components"].items()} == dict.fromkeys(
        ("postgres", "kafka", "elasticsearch", "redis"), "up"
    )


def test_health_without_postgres_is_a_503(headrace: CommandLine, tmp_path: Path) -> None:
    gone = {"DATABASE_URL": f"postgresql://x:secret@127.0.0.1:{free_port()}/gone"}
    with api_process(headrace, tmp_path, gone) as lonely:
        answer = lonely.get("/health")
        assert answer.status_code == 503
        body = answer.json()
        assert (body["status"], body["db_connected"], body["etl_status"]) == ("unhealthy", False, "unknown")
        assert body["components"]["postgres"]["status"] == "down"
        assert body["components"]["kafka"]["status"] == "up"
        assert "secret" not in answer.text
        stats = lonely.get("/stats")
        assert (stats.status_code, stats.headers["content-type"]) == (503, "application/problem+json")


def test_health_without_redis_is_degraded(headrace: CommandLine, tmp_path: Path) -> None:
    with api_process(headrace, tmp_path, {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}) as slower:
        answer = slower.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_stats_add_up_the_runs_in_all_and_per_source(api: httpx.Client, etl: CommandLine) -> None:
    before = api.get("/stats").json()
    etl("run", "letters", "--full")
    after = api.get("/stats").json()
    assert {"total_records_processed", "total_duration_seconds", "last_success", "last_failure", "last_failure_reason",
            "run_count"} <= set(after)  # fmt: skip
    assert after["run_count"] == before["run_count"] + 1
    assert after["total_records_processed"] == before["total_records_processed"] + 25
    assert after["total_duration_seconds"] > before["total_duration_seconds"]
    assert after["last_success"] > before["last_success"]
    letters = after["sources"]["letters"]
    assert letters["run_count"] == before["sources"]["letters"]["run_count"] + 1
    assert (letters["last_failure"], letters["last_failure_reason"]) == (None, None)


def test_a_failed_run_is_told_with_its_reason(api: httpx.Client, etl: CommandLine) -> None:
    wrong_key = CommandLine(etl.home, {**etl.variables, "API_KEY": "wrong"})
    assert "answered 401" in wrong_key("run", "sayings", expect=1).stderr
    body = api.get("/stats").json()["sources"]["sayings"]
    assert body["last_failure"] is not None
    assert "answered 401" in body["last_failure_reason"]
    (run,) = api.get("/runs?source=sayings&status=failed&page_size=1").json()["data"]
    assert (run["trigger"], run["published"], run["stored"]) == ("run", 0, None)


def test_runs_are_listed_newest_first(api: httpx.Client, etl: CommandLine) -> None:
    etl("run", "letters", "--full")
    body = api.get("/runs?source=letters&page=1&page_size=1").json()
    assert (body["page"], body["page_size"], body["has_more"]) == (1, 1, body["total"] > 1)
    (newest,) = body["data"]
    assert api.get(f"/runs/{newest['run_id']}").json() == newest
    assert (newest["status"], newest["published"], newest["stored"], newest["failed"]) == ("success", 25, 25, 0)
    assert {"run_id", "source", "started_at", "finished_at", "status", "published", "stored", "failed",
            "failure_reason", "created_at"} <= set(newest)  # fmt: skip
    assert api.get("/runs/nobody").status_code == 404


@pytest.mark.usefixtures("sources")
def test_data_has_the_documented_shape(api: httpx.Client) -> None:
    body = api.get("/data", params={"page": 1, "page_size": 10, "source": "letters"}).json()
    assert (body["total"], body["page"], body["page_size"], body["has_more"]) == (25, 1, 10, True)
    assert {"id", "source", "source_id", "name", "value", "description", "created_at", "updated_at"} <= set(
        body["data"][0]
    )
    last = api.get("/data", params={"page": 3, "page_size": 10, "source": "letters"}).json()
    assert (len(last["data"]), last["has_more"]) == (5, False)


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize(("source", "kinds"), [("api", {"api"}), ("csv", {"csv"}), ("sayings", {"api"})])
def test_a_source_is_a_kind_or_a_name(api: httpx.Client, source: str, kinds: set[str]) -> None:
    body = api.get("/data", params={"source": source, "page_size": 100}).json()
    assert {row["source"] for row in body["data"]} == kinds


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("muller", ["1"]),
        ("CAFÉ", ["1"]),
        ("o'brien", ["1"]),
        ('"so_what"', ["1"]),
        ("so_what", ["1"]),
        ("sowhat", ["2"]),
        ("100%", ["1"]),
        ("%", ["1"]),
        ("_", ["1"]),
        ("100", ["1", "2"]),
        ("'; DROP TABLE normalized_data; --", []),
    ],
)
def test_search_covers_name_and_description_and_takes_its_text_literally(
    api: httpx.Client, search: str, found: list[str]
) -> None:
    body = api.get("/data", params={"source": "sayings", "search": search}).json()
    assert sorted(row["source_id"] for row in body["data"]) == found


@pytest.mark.parametrize("path", ["/", "/health", "/api/customers/nobody", "/data?page_size=101", "/nothing"])
def test_every_answer_has_its_request_id_and_its_latency(api: httpx.Client, path: str) -> None:
    answer = api.get(path, headers={"X-Request-ID": "trace-42"})
    assert answer.headers["x-request-id"] == "trace-42"
    assert re.search(r"total;dur=[0-9.]+", answer.headers["server-timing"])
    made = api.get(path, headers={"X-Request-ID": "not fit\tfor a log"}).headers["x-request-id"]
    assert made != api.get(path).headers["x-request-id"]
    assert " " not in made


def test_uvicorn_serves_it_as_people_type_it_with_one_log_line_a_request(headrace: CommandLine, tmp_path: Path) -> None:
    with api_process(headrace, tmp_path, {}, uvicorn=True) as api:
        assert api.get("/data", headers={"X-Request-ID": "one-line"}).status_code == 200
        assert api.get("/data?page=x", headers={"X-Request-ID": "wrong"}).status_code == 400

        def lines() -> list[dict[str, Any]]:
            return api.logged("request", request_id="one-line") + api.logged("request", request_id="wrong")

        eventually(lambda: len(lines()) == 2, what="both requests are in the log")
        fields = [(line["method"], line["path"], line["status"], line["ms"] > 0) for line in lines()]
        assert fields == [("GET", "/data", 200, True), ("GET", "/data", 400, True)]
        assert "GET /data" not in api.log.read_text()


def test_browsers_of_other_origins_may_ask_only_if_they_are_named(
    api: httpx.Client, headrace: CommandLine, tmp_path: Path
) -> None:
    origin = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in api.get("/health", headers=origin).headers
    asks = origin | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-request-id",
    }
    with api_process(headrace, tmp_path, {"CORS_ORIGINS": "https://shop.example"}) as open_api:
        assert open_api.get("/health", headers=origin).headers["access-control-allow-origin"] == "https://shop.example"
        before = open_api.options("/api/ingest", headers=asks)
        assert before.status_code == 200, before.text
        assert before.headers["x-request-id"]
        other = open_api.get("/health", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_the_entry_points_are_listed_and_answer(api: httpx.Client) -> None:
    entries = api.get("/").json()["entry_points"]
    paths = {path.partition("?")[0] for path in entries}
    assert {"/health", "/stats", "/runs", "/data", "/docs", "/api/customers"} <= paths
    for path in ("/health", "/stats", "/runs"):
        assert api.get(path).status_code == 200


def test_cli_py_runs_shows_and_forgets(api: httpx.Client, etl: CommandLine) -> None:
    def cli(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "cli.py", *words], cwd=PROJECT, env=etl.environment(), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "letters: 25 records published to records" in cli("run", "letters", "--full")
    assert json.loads(cli("stats", "--json"))["sources"]["letters"]["total_records_processed"] >= 25
    assert re.search(r"letters +\d+ +\d+ ", cli("stats"))
    assert "stored records are as they were" in cli("reset", "letters", "--yes")
    assert "letters" not in api.get("/stats").json()["sources"]
    assert api.get("/data?source=letters").json()["total"] == 25
    assert json.loads(cli("run", "letters", "--json"))["runs"][0]["stored"] == 25


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("API_KEY", "two\nlines"),
        ("DATABASE_URL", "mysql://me:secret@host/db"),
        ("DATABASE_URL", "postgresql://me:secret@host:port/db"),
        ("ETL_INTERVAL", "often"),
        ("ETL_INTERVAL", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("API_HOST", "127.0.0.1"),
        ("CSV_URL", "ftp://host/file.csv"),
    ],
)
def test_a_wrong_value_is_refused_at_the_start_with_its_variables_name(
    headrace: CommandLine, variable: str, value: str
) -> None:
    refused(headrace.words("stats"), headrace, variable, value)


def test_uvicorn_refuses_a_wrong_value_with_its_variables_name_too(headrace: CommandLine) -> None:
    words = [str(Path(sys.executable).with_name("uvicorn")), "api.main:app", "--port", str(free_port())]
    refused(words, headrace, "ETL_INTERVAL", "often")


def refused(words: list[str], headrace: CommandLine, variable: str, value: str) -> None:
    done = subprocess.run(
        words, env=headrace.environment() | {variable: value}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert f"{variable}=" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_settings_are_read_from_a_dot_env_file(
    api: httpx.Client, etl: CommandLine, settings: Settings, tmp_path: Path
) -> None:
    served = (PROJECT / "data" / "titanic.csv").read_bytes()
    with http_server(lambda request: Answer(200, served if request.path == "/titanic.csv" else b"[]")) as url:
        (tmp_path / "sources.toml").write_text((PROJECT / "sources.toml").read_text())
        (tmp_path / ".env").write_text(
            f"API_HOST={settings.mock_url}/\nCSV_URL={url}/titanic.csv\nAPI_KEY=k\nETL_INTERVAL=3600\nLOG_LEVEL=info\n"
            f"DATABASE_URL={settings.plain_database_url}\n"
        )
        names = ("API_HOST", "CSV_URL", "API_KEY", "ETL_INTERVAL", "LOG_LEVEL", "DATABASE_URL", "SOURCES_FILE")
        done = subprocess.run(
            etl.words("run", "titanic", "posts", "--json"), cwd=tmp_path, env=environment_without(etl, *names),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert {run["source"]: run["stored"] for run in json.loads(done.stdout)["runs"]} == {"titanic": 1309, "posts": 100}
    assert f"{url}/titanic.csv" in done.stderr  # LOG_LEVEL=info: the log tells of the download
    assert api.get("/data?source=titanic").json()["total"] == 1309


def test_the_scheduler_of_the_stack_is_there_and_has_nothing_to_do(headrace: CommandLine) -> None:
    row = headrace.status()["scheduler"]
    assert (row["state"], row["problem"]) == ("running", None)
    health = httpx.get(f"http://127.0.0.1:{row['port']}/health", trust_env=False).json()
    assert (health["state"], health["sources"]) == ("nothing_scheduled", {})


def test_with_an_interval_sources_run_by_themselves(api: httpx.Client, etl: CommandLine) -> None:
    often = CommandLine(etl.home, {**etl.variables, "ETL_INTERVAL": "1"})
    scheduler = often.start("scheduler")
    try:

        def scheduled() -> int:
            data = api.get("/runs?source=letters&status=success&page_size=100").json()["data"]
            return sum(run["trigger"] == "schedule" for run in data)

        eventually(lambda: scheduled() >= 2, what="letters ran twice by itself")
    finally:
        scheduler.terminate()
        _, log = scheduler.communicate(timeout=30)
    assert scheduler.returncode == 0, log
