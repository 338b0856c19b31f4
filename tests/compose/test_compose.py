"""The stack of docker-compose.yml, as a user runs it. The tests follow each other on one stack: make test-compose."""

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient

from local_stack.addresses import DEFAULT_PORTS, assign_ports, plain
from local_stack.containers import BROKERS
from local_stack.programs import ROLES
from runtime.kafka.clients import QUIET
from tests.compose.load import Load
from tests.compose.stack import ComposeStack
from tests.e2e.command_line import CommandLine
from tests.processes import WORKERS
from tests.servers.contract import SERVER_NAMES
from tests.waiting import eventually

CONSUMERS = tuple(role.replace(" ", "-") for role in WORKERS)
OURS = tuple(role.name for role in ROLES if role.name != "watchdog")
CUSTOMERS = 10_000

ADDED_BYTES = 280_000_000
"""To python:3.12-slim, whose 120 MB on Docker Hub make it 400 MB. A base from elsewhere may be larger."""

STOP_SECONDS = 10
BATCH_RECORDS = 10_000


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The name of our image, built of this checkout."""
    name = f"headrace-test-{uuid.uuid4().hex[:8]}"
    building = ComposeStack({"HEADRACE_IMAGE": name})
    building("build")
    yield name
    building.remove_image(name)


@pytest.fixture(scope="module")
def stack(image: str) -> Iterator[ComposeStack]:
    with a_stack(image) as running:
        running("up", "--detach", "--wait")
        yield running


@contextmanager
def a_stack(image: str, profiles: str = "") -> Iterator[ComposeStack]:
    """One that has a name and ports of its own, and is not up yet. In the end nothing of it is left."""
    ports = {**DEFAULT_PORTS, "KAFKA_2_PORT": 9094, "KAFKA_3_PORT": 9096}
    free = assign_ports(ports, environment={}, remembered={}, free=True)
    variables = {variable: str(port) for variable, port in free.items()}
    name = f"headrace-test-{uuid.uuid4().hex[:8]}"
    variables |= {"COMPOSE_PROJECT_NAME": name, "HEADRACE_IMAGE": image, "COMPOSE_PROFILES": profiles}
    running = ComposeStack(variables | {"LOG_FORMAT": "json"})
    try:
        yield running
    finally:
        running("--profile", "*", "down", "--volumes")


@pytest.mark.gate
def test_after_up_all_customers_are_served(stack: ComposeStack) -> None:
    assert stack.customers() == CUSTOMERS

    def found() -> bool:
        # Postgres answers for an Elasticsearch that takes long at first.
        answer = stack.get("/search", q="larry").json()
        return bool(answer["data"]) and answer["backend"] == "elasticsearch"

    eventually(found, what="customers can be searched in Elasticsearch")
    key = stack.get("/api/customers", page=1, limit=1).json()["data"][0]["customer_id"]
    stack.get(f"/api/customers/{key}")
    assert stack.get(f"/api/customers/{key}").headers["X-Cache"] == "hit"
    audited(stack)


@pytest.mark.gate
def test_headrace_commands_the_containers_when_headrace_stack_says_docker(stack: ComposeStack, tmp_path: Path) -> None:
    headrace = CommandLine(tmp_path / "home", stack.variables | {"HEADRACE_STACK": "docker"})
    assert headrace("up").stdout.startswith("Headrace is up in containers"), "what runs is left alone"
    statuses = headrace.status()
    assert statuses.keys() == {*SERVER_NAMES, *OURS, "setup", "ingest"}
    assert {name for name, one in statuses.items() if one["state"] == "done"} == {"setup", "ingest"}
    addresses = json.loads(headrace("env", "--json").stdout)
    assert addresses == {name: plain(address) for name, address in stack.addresses().items()}
    assert addresses["API_URL"].endswith(f":{stack.variables['API_PORT']}")
    lag = json.loads(headrace("lag", "--json").stdout)
    assert {"normalizer", "sink-postgres"} <= {row["group"] for row in lag}
    assert sum(row["end"] for row in lag if row["topic"] == "customers.raw") >= CUSTOMERS
    assert "normalizer" in headrace("logs", "normalizer", "-n", "3").stdout


@pytest.mark.gate
def test_the_image_is_small_and_has_neither_root_nor_compilers(stack: ComposeStack) -> None:
    image = stack.image(stack.variables["HEADRACE_IMAGE"])
    assert image["Size"] - stack.image("python:3.12-slim")["Size"] < ADDED_BYTES
    assert image["Config"]["User"] == "10001:10001"
    assert stack("exec", "--no-TTY", "api", "id", "-u").strip() == "10001"
    there = "for tool in cc gcc g++ ld make strip; do command -v $tool; done; true"
    assert stack("exec", "--no-TTY", "api", "sh", "-c", there) == ""


@pytest.mark.gate
def test_every_role_that_is_killed_comes_back_and_nothing_is_lost(stack: ComposeStack) -> None:
    before = {name: restarts(stack, name) for name in OURS}
    for name in OURS:
        stack.kill(name)
    for name in OURS:
        eventually(lambda name=name: restarts(stack, name) > before[name], what=f"{name} is restarted", every=1)  # type: ignore[misc]
    stack.wait_until_healthy(*OURS)
    stack.headrace("run", "customers_api", "--full")
    assert stack.customers() == CUSTOMERS
    audited(stack)


def test_every_role_drains_on_sigterm_under_load(stack: ComposeStack) -> None:
    before = {name: (handled(stack, name), committed(stack, name)) for name in CONSUMERS}
    customers, users = stack.customers(), stack.users()
    took = {}
    with Load(stack.addresses()["KAFKA_BOOTSTRAP_SERVERS"], stack.addresses()["API_URL"]) as load:
        for name in OURS:
            begun = time.monotonic()
            stack("stop", name)
            took[name] = time.monotonic() - begun
            assert [one["State"]["ExitCode"] for one in stack.containers()[name]] == [0], name
            stack("start", name)
    stack.wait_until_healthy(*OURS)
    assert all(seconds < STOP_SECONDS for seconds in took.values()), took
    eventually(lambda: lag(stack) == 0, what="every group has committed to the end", within=120, every=1)
    for name, (records, offsets) in before.items():
        repeated = handled(stack, name) - records - (committed(stack, name) - offsets)
        assert 0 <= repeated <= BATCH_RECORDS, (name, repeated)
    assert stack.customers() == customers + load.customers
    assert stack.users() - users >= load.users > 0
    audited(stack)


def test_restarts_of_the_servers_lose_nothing(stack: ComposeStack) -> None:
    customers = stack.customers()
    for name in SERVER_NAMES:
        stack.headrace("publish", "customers_api", "--full")
        stack("restart", name)
        stack.wait_until_healthy(name)
    stack.wait_until_healthy(*OURS)
    assert stack.customers() == customers
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
    customers = stack.customers()
    stack("down")
    assert stack.volumes()
    stack("up", "--detach", "--wait")
    assert stack.customers() == customers
    audited(stack)
    stack("down", "--volumes")
    assert stack.volumes() == []


def test_one_broker_of_three_may_die(image: str) -> None:
    with a_stack(image, profiles="cluster") as stack:
        stack("up", "--detach", "--wait", *BROKERS, *SERVER_NAMES[1:])
        stack("run", "--rm", "setup")
        servers = {"bootstrap.servers": stack.addresses()["KAFKA_BOOTSTRAP_SERVERS"]}
        admin = AdminClient(servers | {"log_level": QUIET})
        topic = admin.list_topics("customers.raw", timeout=30).topics["customers.raw"]
        assert {len(partition.isrs) for partition in topic.partitions.values()} == {len(BROKERS)}
        stack("kill", BROKERS[0])
        producer = Producer(servers | {"acks": "all", "log_level": QUIET})
        confirmed: list[KafkaError | None] = []
        for partition in topic.partitions:
            producer.produce("customers.raw", b"{}", partition=partition, on_delivery=lambda e, _: confirmed.append(e))
        assert producer.flush(60) == 0
        assert confirmed == [None] * len(topic.partitions)


def handled(stack: ComposeStack, service: str) -> int:
    """Records that a worker has handled, repeated ones included, in its lives that ended well and in this one."""
    stopped = re.findall(r'{.*"event": "(?:normalizer|sink)_stopped".*}', stack("logs", "--no-log-prefix", service))
    ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8101/health').read().decode())"
    now = json.loads(stack("exec", "--no-TTY", service, "python", "-c", ask))
    return sum(int(json.loads(line)["records"]) for line in stopped) + int(now.get("records_in", now.get("records")))


def committed(stack: ComposeStack, group: str) -> int:
    """Offsets, summed over the partitions."""
    rows = json.loads(stack.headrace("lag", "--json"))
    return sum(row["committed"] or 0 for row in rows if row["group"] == group)


def lag(stack: ComposeStack) -> int:
    """Of all groups together, records."""
    return sum(row["lag"] for row in json.loads(stack.headrace("lag", "--json")))


def restarts(stack: ComposeStack, service: str) -> int:
    return sum(one["RestartCount"] for one in stack.containers()[service])


def audited(stack: ComposeStack) -> None:
    """Every record is accounted for, once the stores have what is under way; fails otherwise."""
    stack.headrace("audit", "--wait", "60")
