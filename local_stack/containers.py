"""Reads what `docker inspect` says of our containers. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from local_stack.addresses import PUBLIC, bootstrap_servers, database_url, node_name, redis_url
from local_stack.standing import DONE, Standing

Inspected = Mapping[str, Any]
"""One element of the list that `docker inspect` prints."""

BROKERS = tuple(node_name(node) for node in (1, 2, 3))
"""The services of Kafka; those after the first are there in a cluster only."""

PORTS = {
    **dict.fromkeys(BROKERS, 29092),
    "postgres": 5432,
    "redis": 6379,
    "elasticsearch": 9200,
    "api": 8000,
    "mock-server": 5000,
}
"""The port that each service of docker-compose.yml publishes."""

STATES = {"restarting": "backoff", "created": "stopped", "dead": "fatal"}
"""Docker's words that `headrace status` has others for."""


def standing_of_container(one: Inspected) -> Standing:
    """How a container stands, in the words of `headrace status`: running is alive and healthy."""
    service = service_of(one)
    number = one["Config"]["Labels"].get("com.docker.compose.container-number", "1")
    state, problem = _state(one)
    name = service if number == "1" else f"{service}-{number}"
    pid = one["State"]["Pid"] or None
    note = _note(one) if state == "running" else None
    return Standing(name, pid, state, published_port(one), one["RestartCount"], 0, problem, note)


def addresses_of_containers(found: Iterable[Inspected]) -> dict[str, str]:
    """Where the running ones are reached from this machine, in the order of `headrace env`."""
    running = {service_of(one): one for one in found if _runs(one)}
    ports = {service: port for service, one in running.items() if (port := published_port(one)) is not None}
    brokers = [ports[name] for name in BROKERS if name in ports]
    addresses = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers(brokers)} if brokers else {}
    forms: dict[str, tuple[str, Callable[[int], str]]] = {
        "DATABASE_URL": ("postgres", lambda port: database_url(port, _password_in(running["postgres"]))),
        "REDIS_URL": ("redis", lambda port: redis_url(port, _password_in(running["redis"]))),
        "ELASTICSEARCH_URL": ("elasticsearch", _http),
        "API_URL": ("api", _http),
        "MOCK_URL": ("mock-server", _http),
    }
    addresses |= {name: form(ports[service]) for name, (service, form) in forms.items() if service in ports}
    return {name: addresses[name] for name in PUBLIC if name in addresses}


def service_of(one: Inspected) -> str:
    """The service of docker-compose.yml that this container belongs to."""
    return str(one["Config"]["Labels"]["com.docker.compose.service"])


def published_port(one: Inspected) -> int | None:
    """The port of this machine that leads to it."""
    bindings = one["NetworkSettings"]["Ports"].get(f"{PORTS.get(service_of(one))}/tcp")
    return int(bindings[0]["HostPort"]) if bindings else None


def _state(one: Inspected) -> tuple[str, str | None]:
    state = one["State"]
    status, code = state["Status"], state["ExitCode"]
    if status == "exited":
        once = one["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
        return (DONE, None) if once and code == 0 else ("exited", f"exit code {code}")
    if status != "running":
        return STATES.get(status, status), f"the container is {status}"
    health = state.get("Health")
    if health is None or health["Status"] == "healthy":
        return "running", None
    answers = [answer["Output"].strip() for answer in health.get("Log") or [] if answer["ExitCode"] != 0]
    return health["Status"], (answers[-1].splitlines()[-1] if answers and answers[-1] else "not asked yet")


def _note(one: Inspected) -> str | None:
    """What its latest health check has said though it was well: topics that are paused."""
    log = (one["State"].get("Health") or {}).get("Log") or []
    said = [line for line in log[-1]["Output"].splitlines() if " is paused: " in line] if log else []
    return "; ".join(said) or None


def _password_in(server: Inspected) -> str:
    variables = dict(line.partition("=")[::2] for line in server["Config"].get("Env") or [])
    return str(variables.get(f"{service_of(server).upper()}_PASSWORD", ""))


def _runs(one: Inspected) -> bool:
    return bool(one["State"]["Running"])


def _http(port: int) -> str:
    return f"http://127.0.0.1:{port}"
