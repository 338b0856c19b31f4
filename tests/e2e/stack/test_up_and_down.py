"""The command line on a stack of its own: up, status, env, crashes, up again, down, clean."""

import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
import pytest
import redis

from local_stack import unprivileged
from local_stack.installations import SERVER_NAMES
from tests.e2e.command_line import UP, CommandLine
from tests.e2e.stack import attacker
from tests.e2e.stores import rows, value
from tests.waiting import eventually

WITHOUT = {"REDIS_URL": "none", "ELASTICSEARCH_URL": "none"}


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def nothing_is_left(home: Path) -> bool:
    data = (home / "data").resolve()
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            inside = Path(process.cwd()).is_relative_to(data) or Path(process.cwd()).is_relative_to(home)
            inside = inside and process.pid != os.getpid()
        except psutil.Error:
            continue
        if inside or str(home) in words or str(data) in words:
            return False
    return True


def passwords_of(headrace: CommandLine) -> list[str]:
    addresses = json.loads(headrace("env", "--json").stdout)
    return [str(urlsplit(addresses[name]).password) for name in ("DATABASE_URL", "REDIS_URL")]


def test_every_process_is_running_according_to_status(headrace: CommandLine) -> None:
    rows = json.loads(headrace("status", "--json").stdout)
    assert {"kafka", "postgres", "redis"} <= {row["name"] for row in rows}
    assert all(row["state"] == "running" and psutil.pid_exists(row["pid"]) for row in rows)


def test_env_prints_the_addresses_that_other_programs_need(headrace: CommandLine) -> None:
    addresses = json.loads(headrace("env", "--json").stdout)
    assert list(addresses) == [
        "DATABASE_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "REDIS_URL",
        "ELASTICSEARCH_URL",
        "API_URL",
        "MOCK_URL",
        "DASHBOARD_URL",
    ]
    plain = dict(line.split("=", 1) for line in headrace("env").stdout.splitlines())
    assert plain == addresses


def test_published_passwords_open_no_store(headrace: CommandLine) -> None:
    for user, password in attacker.LOGINS:
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            attacker.log_in(headrace.settings(), user, password)
    for words in ("PING", "GET key", *attacker.FOR_REDIS):
        with pytest.raises(attacker.NOT_LET_IN, match=r"(?i)authenticat|not allowed"):
            attacker.ask_redis(headrace.settings(), words, as_ourselves=False)


@pytest.mark.parametrize("statements", attacker.FOR_POSTGRES)
def test_our_own_role_reaches_no_file_no_program_and_no_other_role(headrace: CommandLine, statements: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        attacker.ask_postgres(headrace.settings(), statements)


@pytest.mark.parametrize("words", attacker.FOR_REDIS)
def test_our_own_redis_user_may_run_no_administrative_command(headrace: CommandLine, words: str) -> None:
    with pytest.raises(redis.ResponseError, match=r"no permissions|not allowed"):
        attacker.ask_redis(headrace.settings(), words)


def test_elasticsearch_writes_nowhere_but_into_its_own_folder(headrace: CommandLine) -> None:
    url = f"{headrace.settings().elasticsearch_url}/_snapshot/taken"
    answer = httpx.put(url, json={"type": "fs", "settings": {"location": "/tmp/headrace-attack"}}, trust_env=False)  # noqa: S108
    assert answer.is_error
    assert "path.repo" in answer.text


def test_servers_run_without_capabilities_and_cannot_get_any(headrace: CommandLine) -> None:
    passwords = passwords_of(headrace)
    for name, one in headrace.standings().items():
        for process in attacker.family(one.pid) if one.pid and name in SERVER_NAMES else []:
            held = attacker.capabilities(process.pid)
            assert "CapEff" not in held, name
            assert "NoNewPrivs:\t1" in Path(f"/proc/{process.pid}/status").read_text(), name
            assert set(process.uids()) == {process.uids().real}, name
            if os.geteuid() == 0:
                assert process.username() == unprivileged.USER
                assert not held, name
                assert not any(password in str(process.environ()) for password in passwords), name


def test_nobody_else_can_look_into_the_stack_or_see_a_password(headrace: CommandLine) -> None:
    passwords = passwords_of(headrace)
    assert all(len(password) >= 32 for password in passwords)
    assert len(set(passwords)) == len(passwords)
    assert stat.S_IMODE(headrace.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((headrace.home / "data").stat().st_mode) in (0o700, 0o750)
    keeping = list(attacker.files_with(passwords, headrace.home))
    assert {file.name for file in keeping} == {"stack.json", "stack.env"}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in keeping)
    assert stat.S_IMODE((headrace.home / "logs" / "kafka.log").stat().st_mode) == 0o640
    shown = headrace(*UP).stdout + headrace("status", "--json").stdout + attacker.all_arguments()
    assert not any(password in shown for password in passwords)


def test_a_killed_process_is_started_again_and_counted(headrace: CommandLine) -> None:
    before = headrace.standings()["redis"]
    headrace.process("redis").kill()
    eventually(lambda: headrace.standings()["redis"].is_well, what="redis is well again", within=15)
    after = headrace.standings()["redis"]
    assert after.pid != before.pid
    assert after.restarts == before.restarts + 1


def test_a_frozen_server_is_not_called_running(headrace: CommandLine) -> None:
    postgres = headrace.process("postgres")
    postgres.suspend()
    try:
        assert headrace.standings()["postgres"].state == "unhealthy"
        headrace("status", expect=1)
    finally:
        postgres.resume()
    eventually(lambda: headrace("status", expect=None).returncode == 0, what="the status is good again", within=15)


def test_up_on_a_running_stack_leaves_every_process_alone(headrace: CommandLine) -> None:
    before = {name: one.pid for name, one in headrace.standings().items()}
    headrace(*UP)
    assert {name: one.pid for name, one in headrace.standings().items()} == before


def test_status_says_who_was_started_with_other_settings_until_it_is_restarted(headrace: CommandLine) -> None:
    assert {row["outdated"] for row in headrace.status().values()} == {None}
    elsewhere = replace(headrace, variables={**headrace.variables, "CORS_ORIGINS": "https://example.org"})
    outdated = {name: row["outdated"] for name, row in elsewhere.status().items() if row["outdated"]}
    assert outdated == {"api": "runs with another CORS_ORIGINS than is there now: headrace restart"}
    elsewhere("restart", "api")
    assert elsewhere.status()["api"]["outdated"] is None
    assert headrace.status()["api"]["outdated"] is not None
    before = {name: one.pid for name, one in headrace.standings().items()}
    headrace(*UP)
    after = {name: one.pid for name, one in headrace.standings().items()}
    assert {name for name in before if before[name] != after[name]} == {"api"}


def test_a_running_stack_with_published_passwords_must_be_restarted(headrace: CommandLine) -> None:
    record = headrace.home / "stack.json"
    known = record.read_text()
    record.write_text(json.dumps(json.loads(known) | {"passwords": {}}))
    try:
        assert "headrace down, headrace up" in headrace(*UP, expect=1).stderr
    finally:
        record.write_text(known)


def test_a_killed_supervisor_leaves_nothing_that_the_next_up_cannot_clear(headrace: CommandLine) -> None:
    ports = {name: one.port for name, one in headrace.standings().items()}
    supervisor = psutil.Process(int((headrace.home / "run" / "supervisord.pid").read_text()))
    supervisor.kill()
    eventually(lambda: has_ended(supervisor), what="the supervisor has ended", within=5)
    assert "No stack is running" in headrace("env", expect=1).stderr
    assert "Stopping what a killed supervisor left running" in headrace(*UP).stdout
    assert {name: one.port for name, one in headrace.standings().items()} == ports
    headrace("status", expect=0)


def test_down_stops_everything_once_and_says_so_when_there_is_nothing_left(headrace: CommandLine) -> None:
    headrace("down")
    assert nothing_is_left(headrace.home)
    assert "Nothing is running" in headrace("down").stdout
    assert all(one.state == "stopped" for one in headrace.standings().values())
    headrace("status", expect=1)


def test_a_taken_port_is_named_with_its_holder_and_its_variable(headrace: CommandLine) -> None:
    port = headrace.standings()["redis"].port
    holder = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], stderr=subprocess.DEVNULL
    )
    try:
        process = psutil.Process(holder.pid)
        eventually(
            lambda: any(c.laddr.port == port for c in process.net_connections("tcp")), what="it listens", within=10
        )
        told = headrace("up", "--no-ingest", expect=1).stderr
        assert f"Port {port} (REDIS_PORT) is taken by" in told
        assert f"(pid {holder.pid})" in told
    finally:
        holder.kill()
        holder.wait()
    assert nothing_is_left(headrace.home)


def test_an_interrupted_up_leaves_no_orphan(headrace: CommandLine) -> None:
    starting = headrace.start(*UP)
    eventually((headrace.home / "run" / "supervisord.pid").exists, what="a supervisor runs")
    second = headrace(*UP, expect=1)
    assert f"(pid {starting.pid}) is at work" in second.stderr
    starting.send_signal(signal.SIGINT)
    starting.communicate(timeout=60)
    assert starting.returncode == 130
    assert nothing_is_left(headrace.home)


def test_without_redis_and_elasticsearch_everything_is_served_from_postgres(headrace: CommandLine) -> None:
    headrace("down")
    said = CommandLine(headrace.home, WITHOUT)(*UP).stdout
    assert "Redis          none (REDIS_URL=none): reads come from Postgres" in said
    assert "Elasticsearch  none (ELASTICSEARCH_URL=none): search answers from Postgres" in said
    # From here on the stack itself says so.
    addresses = json.loads(headrace("env", "--json").stdout)
    assert addresses["REDIS_URL"] == addresses["ELASTICSEARCH_URL"] == "none"
    assert {"redis", "sink-redis", "elasticsearch", "sink-elasticsearch"}.isdisjoint(headrace.standings())
    with httpx.Client(base_url=addresses["API_URL"], timeout=30) as api:
        health = api.get("/api/health").json()
        assert (health["status"], health["components"]["redis"]) == ("healthy", {"status": "disabled"})
        api.post("/users/", json={"name": "Ada", "email": "ada@example.org", "role": "admin"}).raise_for_status()
        api.patch("/users/ada@example.org", json={"name": "Ada Lovelace"}).raise_for_status()
        answers = [api.get("/users/ada@example.org") for _ in range(2)]
        assert [(one.json()["name"], one.headers["x-cache"]) for one in answers] == [("Ada Lovelace", "bypass")] * 2
        assert not {"sink-redis", "sink-elasticsearch"} & api.get("/lag").json()["groups"].keys()
    assert "no Redis (REDIS_URL=none)" in headrace("scale", "redis=2", expect=1).stderr
    assert "no Elasticsearch (ELASTICSEARCH_URL=none)" in headrace("scale", "elasticsearch=2", expect=1).stderr
    assert "no store follows Postgres" in headrace("audit", "--deep").stdout
    assert "there is no cache to keep fresh" in headrace("sink", "redis").stderr
    headrace("status", expect=0)


def test_up_on_a_database_of_an_older_version_says_so_and_how_to_go_on(headrace: CommandLine) -> None:
    # Still without the servers that have nothing to do with it: to start and stop them takes longest.
    without = CommandLine(headrace.home, WITHOUT)
    revision = "SELECT version_num FROM alembic_version"
    ours = value(headrace.settings(), revision)
    rows(headrace.settings(), "UPDATE alembic_version SET version_num = '0018'")
    without("down")
    said = without(*UP, expect=1).stderr
    assert "the schema of an older version, from before the first release (revision 0018)" in " ".join(said.split())
    assert "headrace clean" in said
    assert "Traceback" not in said
    without("up", "--servers-only")
    without("export", "customers", "--to", str(headrace.home / "saved"))
    rows(headrace.settings(), "UPDATE alembic_version SET version_num = $1", ours)
    without(*UP)


def test_clean_deletes_the_state_folder_and_no_other(headrace: CommandLine, tmp_path: Path) -> None:
    other = CommandLine(tmp_path)
    (tmp_path / "precious").touch()
    assert "is not a state folder" in other("clean", "--yes", expect=1).stderr
    assert (tmp_path / "precious").exists()
    headrace("clean", "--yes")
    assert not headrace.home.exists()
