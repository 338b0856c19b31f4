"""The command line on a stack of its own: up, status, env, crashes, up again, down, clean."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.command_line import CommandLine

UP = ("up", "--free-ports", "--no-ingest")


def within(seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.1)


def nothing_is_left(home: Path) -> bool:
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            inside = Path(process.cwd()).is_relative_to(home) and process.pid != os.getpid()
        except psutil.Error:
            continue
        if inside or str(home) in words:
            return False
    return True


@pytest.fixture(scope="module")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    command_line = CommandLine(tmp_path_factory.mktemp("stack") / ".headrace")
    try:
        command_line(*UP)
        yield command_line
    finally:
        command_line("clean", "--yes", expect=None)


def test_every_process_runs_and_says_so_itself(headrace: CommandLine) -> None:
    rows = json.loads(headrace("status", "--json").stdout)
    assert {"kafka", "postgres", "redis"} <= {row["name"] for row in rows}
    assert all(row["state"] == "running" and psutil.pid_exists(row["pid"]) for row in rows)


def test_the_addresses_are_the_six_that_other_programs_need(headrace: CommandLine) -> None:
    addresses = json.loads(headrace("env", "--json").stdout)
    assert list(addresses) == [
        "DATABASE_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "REDIS_URL",
        "ELASTICSEARCH_URL",
        "API_URL",
        "MOCK_URL",
    ]
    plain = dict(line.split("=", 1) for line in headrace("env").stdout.splitlines())
    assert plain == addresses


def test_a_killed_process_is_started_again_and_counted(headrace: CommandLine) -> None:
    before = headrace.status()["redis"]
    os.kill(before["pid"], signal.SIGKILL)
    within(15, lambda: headrace.status()["redis"]["state"] == "running")
    after = headrace.status()["redis"]
    assert after["pid"] != before["pid"]
    assert after["restarts"] == before["restarts"] + 1


def test_a_frozen_server_is_not_called_running(headrace: CommandLine) -> None:
    postgres = psutil.Process(headrace.status()["postgres"]["pid"])
    postgres.suspend()
    try:
        assert headrace.status()["postgres"]["state"] == "unhealthy"
        headrace("status", expect=1)
    finally:
        postgres.resume()
    within(15, lambda: headrace("status", expect=None).returncode == 0)


def test_up_on_a_running_stack_leaves_every_process_alone(headrace: CommandLine) -> None:
    before = {name: row["pid"] for name, row in headrace.status().items()}
    headrace(*UP)
    assert {name: row["pid"] for name, row in headrace.status().items()} == before


def test_a_killed_supervisor_leaves_nothing_that_the_next_up_cannot_clear(headrace: CommandLine) -> None:
    ports = {name: row["port"] for name, row in headrace.status().items()}
    supervisor = psutil.Process(int((headrace.home / "run" / "supervisord.pid").read_text()))
    supervisor.kill()
    within(5, lambda: not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE)
    assert "No stack is running" in headrace("env", expect=1).stderr
    assert "Stopping what a killed supervisor left running" in headrace(*UP).stdout
    assert {name: row["port"] for name, row in headrace.status().items()} == ports
    headrace("status", expect=0)


def test_down_stops_everything_once_and_says_so_when_there_is_nothing_left(headrace: CommandLine) -> None:
    headrace("down")
    assert nothing_is_left(headrace.home)
    assert "Nothing is running" in headrace("down").stdout
    assert all(row["state"] == "stopped" for row in headrace.status().values())
    headrace("status", expect=1)


def test_a_taken_port_is_named_with_its_holder_and_its_variable(headrace: CommandLine) -> None:
    port = headrace.status()["redis"]["port"]
    holder = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], stderr=subprocess.DEVNULL
    )
    try:
        process = psutil.Process(holder.pid)
        within(10, lambda: any(c.laddr.port == port for c in process.net_connections("tcp")))
        told = headrace("up", "--no-ingest", expect=1).stderr
        assert f"Port {port} (REDIS_PORT) is taken by" in told
        assert f"(pid {holder.pid})" in told
    finally:
        holder.kill()
        holder.wait()
    assert nothing_is_left(headrace.home)


def test_an_interrupted_up_leaves_no_orphan(headrace: CommandLine) -> None:
    starting = headrace.start(*UP)
    within(60, lambda: (headrace.home / "run" / "supervisord.pid").exists())
    second = headrace(*UP, expect=1)
    assert f"(pid {starting.pid}) is at work" in second.stderr
    starting.send_signal(signal.SIGINT)
    starting.communicate(timeout=60)
    assert starting.returncode == 130
    assert nothing_is_left(headrace.home)


def test_without_redis_and_elasticsearch_everything_is_served_from_postgres(headrace: CommandLine) -> None:
    headrace("down")
    without = CommandLine(headrace.home, {"REDIS_URL": "none", "ELASTICSEARCH_URL": "none"})
    said = without(*UP).stdout
    assert "Redis          none (REDIS_URL=none): reads come from Postgres" in said
    assert "Elasticsearch  none (ELASTICSEARCH_URL=none): search answers from Postgres" in said
    # From here on the stack itself says so.
    addresses = json.loads(headrace("env", "--json").stdout)
    assert addresses["REDIS_URL"] == addresses["ELASTICSEARCH_URL"] == "none"
    assert {"redis", "sink-redis", "elasticsearch", "sink-elasticsearch"}.isdisjoint(headrace.status())
    with httpx.Client(base_url=addresses["API_URL"], timeout=30) as api:
        health = api.get("/api/health").json()
        assert (health["status"], health["components"]["redis"]) == ("healthy", {"status": "disabled"})
        api.post("/users/", json={"name": "Ada", "email": "ada@example.org", "role": "admin"}).raise_for_status()
        api.patch("/users/ada@example.org", json={"name": "Ada Lovelace"}).raise_for_status()
        answers = [api.get("/users/ada@example.org") for _ in range(2)]
        assert [(one.json()["name"], one.headers["x-cache"]) for one in answers] == [("Ada Lovelace", "bypass")] * 2
        assert not {"sink-redis", "sink-elasticsearch"} & api.get("/lag").json()["groups"].keys()
    assert "no Redis (REDIS_URL=none)" in headrace("scale", "redis=2", expect=1).stderr
    assert "no store follows Postgres" in headrace("audit", "--deep").stdout
    assert "there is no cache to keep fresh" in headrace("sink", "redis").stderr
    headrace("status", expect=0)
    headrace("down")


def test_clean_deletes_the_state_folder_and_no_other(headrace: CommandLine, tmp_path: Path) -> None:
    other = CommandLine(tmp_path)
    (tmp_path / "precious").touch()
    assert "is not a state folder" in other("clean", "--yes", expect=1).stderr
    assert (tmp_path / "precious").exists()
    headrace("clean", "--yes")
    assert not headrace.home.exists()
