"""The stack of docker-compose.yml, as a user runs it. The tests follow each other on one stack: make test-compose."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from local_stack.ports import DEFAULT_PORTS, assign_ports
from local_stack.programs import ROLES
from runtime.kafka_clients import QUIET
from tests.compose.stack import ComposeStack
from tests.e2e.command_line import CommandLine
from tests.waiting import eventually

SERVERS = ("kafka", "postgres", "redis", "elasticsearch")
OURS = tuple(role.name for role in ROLES if role.name != "watchdog")
CUSTOMERS = 10_000
IMAGE_BYTES = 350_000_000
STOP_SECONDS = 10


@pytest.fixture(scope="module")
def stack() -> Iterator[ComposeStack]:
    name = f"headrace-test-{uuid.uuid4().hex[:8]}"
    ports = assign_ports(DEFAULT_PORTS, environment={}, remembered={}, free=True)
    variables = {variable: str(port) for variable, port in ports.items()}
    running = ComposeStack(variables | {"COMPOSE_PROJECT_NAME": name, "HEADRACE_IMAGE": name, "COMPOSE_PROFILES": ""})
    try:
        running("up", "--detach", "--wait", "--build")
        yield running
    finally:
        running("down", "--volumes", "--rmi", "local")


def test_up_is_enough_to_see_all_customers(stack: ComposeStack) -> None:
    assert stack.customers() == CUSTOMERS
    found = eventually(lambda: stack.get("/search", q="larry").json()["data"], what="customers can be searched")
    assert stack.get("/search", q="larry").json()["backend"] == "elasticsearch"
    key = stack.get("/api/customers", page=1, limit=1).json()["data"][0]["customer_id"]
    assert found
    stack.get(f"/api/customers/{key}")
    assert stack.get(f"/api/customers/{key}").headers["X-Cache"] == "hit"
    audited(stack)


def test_headrace_is_about_the_containers_when_told_so(stack: ComposeStack, tmp_path: Path) -> None:
    headrace = CommandLine(tmp_path / "home", stack.variables | {"HEADRACE_STACK": "docker"})
    assert headrace("up").stdout.startswith("Headrace is up in containers"), "what runs is left alone"
    standings = headrace.status()
    assert standings.keys() == {*SERVERS, *OURS, "setup", "ingest"}
    assert {name for name, one in standings.items() if one["state"] == "done"} == {"setup", "ingest"}
    addresses = json.loads(headrace("env", "--json").stdout)
    assert addresses == stack.addresses()
    assert addresses["API_URL"].endswith(f":{stack.variables['API_PORT']}")
    lag = json.loads(headrace("lag", "--json").stdout)
    assert {"normalizer", "sink-postgres"} <= {row["group"] for row in lag}
    assert sum(row["end"] for row in lag if row["topic"] == "customers.raw") >= CUSTOMERS
    assert "normalizer" in headrace("logs", "normalizer", "-n", "3").stdout


def test_the_image_is_small_and_has_neither_root_nor_compilers(stack: ComposeStack) -> None:
    image = stack.image()
    assert image["Size"] < IMAGE_BYTES
    assert image["Config"]["User"] == "10001:10001"
    assert stack("exec", "--no-TTY", "api", "id", "-u").strip() == "10001"
    there = "for tool in cc gcc g++ ld make strip; do command -v $tool; done; true"
    assert stack("exec", "--no-TTY", "api", "sh", "-c", there) == ""


def test_every_role_that_is_killed_comes_back_and_nothing_is_lost(stack: ComposeStack) -> None:
    before = {name: restarts(stack, name) for name in OURS}
    for name in OURS:
        # `docker kill` would be an operator's wish, after which the engine restarts nothing.
        stack(
            "exec",
            "--no-TTY",
            name,
            "python",
            "-c",
            "import os, signal; os.kill(-1, signal.SIGKILL)",
        )
    for name in OURS:
        eventually(lambda name=name: restarts(stack, name) > before[name], what=f"{name} is restarted", every=1)  # type: ignore[misc]
    stack.wait_until_healthy(*OURS)
    stack.headrace("run", "customers_api", "--full")
    assert stack.customers() == CUSTOMERS
    audited(stack)


def test_every_role_drains_on_sigterm_under_load(stack: ComposeStack) -> None:
    stack.headrace("publish", "customers_api", "--full")
    for name in OURS:
        begun = time.monotonic()
        stack("stop", name)
        took = time.monotonic() - begun
        ended = [one["State"]["ExitCode"] for one in stack.containers()[name]]
        assert (ended, took < STOP_SECONDS) == ([0], True), (name, ended, took)
        stack("start", name)
    stack.wait_until_healthy(*OURS)
    audited(stack)


def test_restarts_of_the_servers_lose_nothing(stack: ComposeStack) -> None:
    for name in SERVERS:
        stack.headrace("publish", "customers_api", "--full")
        stack("restart", name)
        stack.wait_until_healthy(name)
    stack.wait_until_healthy(*OURS)
    assert stack.customers() == CUSTOMERS
    audited(stack)


def test_three_normalizers_share_the_partitions(stack: ComposeStack) -> None:
    stack("up", "--detach", "--wait", "--scale", "normalizer=3")
    admin = AdminClient({"bootstrap.servers": stack.addresses()["KAFKA_BOOTSTRAP_SERVERS"], "log_level": QUIET})

    def shared() -> bool:
        members = admin.describe_consumer_groups(["normalizer"])["normalizer"].result().members
        return sum(bool(member.assignment.topic_partitions) for member in members) == 3

    eventually(shared, what="each of three has partitions", within=90, every=1)
    stack.headrace("run", "customers_api", "--full")
    audited(stack)


def test_the_data_survives_down_and_goes_with_its_volumes(stack: ComposeStack) -> None:
    stack("down")
    assert stack.volumes()
    stack("up", "--detach", "--wait")
    assert stack.customers() == CUSTOMERS
    audited(stack)
    stack("down", "--volumes")
    assert stack.volumes() == []


def restarts(stack: ComposeStack, service: str) -> int:
    return sum(one["RestartCount"] for one in stack.containers()[service])


def audited(stack: ComposeStack) -> None:
    """Every record is accounted for, once the stores have what is under way; fails otherwise."""
    stack.headrace("audit", "--wait", "60")
