"""The answer of `docker inspect`, in the words of `headrace status` and `headrace env`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_stack import containers, redis
from local_stack.containers import PORTS, addresses_of_containers, choose_passwords, status_of_container
from runtime.settings import read_env_file
from tests.servers.images import COMPOSE_FILE


def inspected(
    service: str,
    status: str = "running",
    *,
    health: str | None = "healthy",
    said: str = "",
    port: int | None = None,
    number: int = 1,
    exit_code: int = 0,
    restart: str = "unless-stopped",
) -> dict[str, Any]:
    inside = f"{PORTS.get(service, 9)}/tcp"
    checked = {"Status": health, "Log": [{"ExitCode": 1, "Output": said}] if said else []}
    return {
        "RestartCount": 2,
        "Config": {
            "Labels": {"com.docker.compose.service": service, "com.docker.compose.container-number": str(number)},
            "Env": ["PATH=/bin", "POSTGRES_PASSWORD=of=postgres"],
        },
        "HostConfig": {"RestartPolicy": {"Name": restart}},
        "NetworkSettings": {"Ports": {inside: port and [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}},
        "State": {
            "Status": status,
            "Running": status in ("running", "paused"),
            "Pid": 77 if status == "running" else 0,
            "ExitCode": exit_code,
            **({"Health": checked} if health else {}),
        },
    }


def test_a_healthy_container_runs() -> None:
    found = status_of_container(inspected("api", port=8000))
    assert (found.name, found.state, found.pid, found.port, found.restarts) == ("api", "running", 77, 8000, 2)
    assert found.is_well


def test_further_instances_are_numbered() -> None:
    assert status_of_container(inspected("normalizer", number=3)).name == "normalizer-3"


@pytest.mark.parametrize("health", ["starting", "unhealthy"])
def test_a_container_that_is_not_healthy_says_what_its_check_said_last(health: str) -> None:
    found = status_of_container(inspected("sink-redis", health=health, said="first line\nRedis does not answer\n"))
    assert (found.state, found.problem, found.is_well) == (health, "Redis does not answer", False)


def test_a_container_that_is_well_says_what_it_has_paused() -> None:
    said = "customers.clean is paused: declared differently\n"
    found = status_of_container(inspected("sink-postgres", said=said))
    assert (found.state, found.problem, found.note) == ("running", None, said.strip())


@pytest.mark.parametrize(
    ("status", "state", "problem"),
    [
        ("restarting", "backoff", "the container is restarting"),
        ("created", "stopped", "the container is created"),
        ("paused", "paused", "the container is paused"),
        ("exited", "exited", "exit code 3"),
    ],
)
def test_a_container_that_does_not_run_is_not_well(status: str, state: str, problem: str) -> None:
    found = status_of_container(inspected("relay", status, exit_code=3))
    assert (found.state, found.pid, found.problem, found.is_well) == (state, None, problem, False)


def test_a_one_shot_container_is_done_only_when_it_has_succeeded() -> None:
    done = status_of_container(inspected("setup", "exited", health=None, restart="no"))
    assert (done.state, done.problem, done.is_well) == ("done", None, True)
    assert not status_of_container(inspected("ingest", "exited", health=None, restart="no", exit_code=1)).is_well
    assert not status_of_container(inspected("api", "exited")).is_well, "a role that ended is not done"


def test_addresses_come_from_the_published_ports_of_running_containers() -> None:
    found = [
        inspected("kafka-2", port=9094),
        inspected("kafka", port=19092),
        inspected("postgres", port=15432),
        inspected("redis", "exited", port=6379),
        inspected("elasticsearch", port=9200),
        inspected("api", port=8000),
        inspected("mock-server", port=5000),
        inspected("normalizer"),
    ]
    assert addresses_of_containers(found) == {
        "DATABASE_URL": "postgresql://headrace:of=postgres@127.0.0.1:15432/headrace?sslmode=disable",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:19092,127.0.0.1:9094",
        "ELASTICSEARCH_URL": "http://127.0.0.1:9200",
        "API_URL": "http://127.0.0.1:8000",
        "MOCK_URL": "http://127.0.0.1:5000",
    }
    assert addresses_of_containers([]) == {}


def test_the_known_container_ports_are_those_that_the_compose_file_publishes() -> None:
    services = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    pipeline = {name: one for name, one in services.items() if one.get("profiles") != ["observability"]}
    published = {name: int(one["ports"][0].rpartition(":")[2]) for name, one in pipeline.items() if "ports" in one}
    assert published == PORTS


def test_the_cache_in_containers_takes_the_same_commands_as_the_local_one() -> None:
    configuration = yaml.safe_load(COMPOSE_FILE.read_text())["configs"]["redis"]["content"].splitlines()
    assert "user default off" in configuration
    rights = next(line for line in configuration if line.startswith(f"user {redis.USER} on "))
    assert rights.endswith(f" ~* {redis.ALLOWED}")


NAMES = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "FORGET_SECRET")


@pytest.fixture
def volumes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engine's volumes."""
    there = ["other_postgres", "shop_redis"]

    def output(command: Sequence[str]) -> str:
        if command[1] == "compose":
            return json.dumps({"volumes": {"postgres": {"name": "shop_postgres"}}})
        return "".join(f"{name}\n" for name in there)

    monkeypatch.setattr(containers, "_output", output)
    monkeypatch.setattr(containers, "_docker", lambda: "docker")
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return there


def test_servers_in_containers_get_passwords_of_their_own_before_their_first_start(
    volumes: list[str], tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text("API_PORT=8001")
    file.chmod(0o644)
    choose_passwords(file)
    chosen = read_env_file(file)
    assert chosen.keys() == {"API_PORT", *NAMES}
    assert chosen["API_PORT"] == "8001"
    assert all(len(chosen[name] or "") == 32 for name in NAMES)
    assert chosen[NAMES[0]] != chosen[NAMES[1]]
    assert file.stat().st_mode & 0o777 == 0o600
    volumes.append("shop_postgres")
    choose_passwords(file)
    assert read_env_file(file) == chosen, "they stay"


def test_a_password_that_is_set_stays_and_so_does_that_of_a_stack_with_data(
    volumes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    monkeypatch.setenv("REDIS_PASSWORD", "mine")
    volumes.append("shop_postgres")
    choose_passwords(file)
    assert not file.exists(), "its data has been made with the published one"
    volumes.remove("shop_postgres")
    file.write_text("POSTGRES_PASSWORD=\n")
    choose_passwords(file)
    assert "REDIS_PASSWORD" not in read_env_file(file)
    assert len(read_env_file(file)["POSTGRES_PASSWORD"] or "") == 32, "an empty one is none"
    choose_passwords(file)
    assert file.read_text().count("POSTGRES_PASSWORD=") == 2
