"""The answer of `docker inspect`, in the words of `headrace status` and `headrace env`."""

from typing import Any

import pytest
import yaml

from local_stack import redis
from local_stack.containers import PORTS, addresses_of_containers, status_of_container
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
        "DATABASE_URL": "postgresql://headrace:of=postgres@127.0.0.1:15432/headrace",
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
