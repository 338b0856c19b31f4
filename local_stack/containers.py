"""The stack in containers, by way of `docker compose`: what `headrace` does with HEADRACE_STACK=docker."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from local_stack.addresses import (
    ON_THIS_MACHINE,
    PUBLIC,
    bootstrap_servers,
    database_url,
    make_passwords,
    new_secret,
    node_name,
    redis_url,
)
from local_stack.errors import StackError
from local_stack.log_reading import LOG_TAIL_LINES
from local_stack.process_status import DONE, ProcessStatus
from local_stack.programs import PROJECT
from local_stack.state_folder import write_atomically
from runtime.settings import COMPOSE_ENV, ENV_FILE, read_variables

FILE = PROJECT / "docker-compose.yml"
SERVERS = ("kafka", "postgres", "redis", "elasticsearch")

EVERYTHING = ("--profile", "*")
"""Containers of profiles that are not asked for now may be there since the last start."""

BROKERS = tuple(node_name(node) for node in (1, 2, 3))
"""The services of Kafka; those after the first are there in a cluster only."""

PORTS = {
    **dict.fromkeys(BROKERS, 29092),
    "postgres": 5432,
    "redis": 6379,
    "elasticsearch": 9200,
    "api": 8000,
    "mock-server": 5000,
    "dashboard": 8090,
}
"""The port that each service of docker-compose.yml publishes."""

STATES = {"restarting": "backoff", "created": "stopped", "dead": "fatal"}
"""Docker's words that `headrace status` has others for."""


def up(home: Path, *, brokers: int | None, servers_only: bool) -> dict[str, str]:
    """Build the image, start what does not run and wait until all is healthy and the first ingestion is in Postgres.

    Blocking: minutes at first. Idempotent. The addresses go to `compose.env` in `home` and are returned, passwords to
    `.env` before there is data. Raises StackError; what has started then goes on, for a look at its logs.
    """
    if brokers not in (None, 1, 3):
        raise StackError(f"A cluster of {brokers} brokers is not offered in containers.", remedy="Choose 1 or 3.")
    cluster = {} if brokers is None else {"COMPOSE_PROFILES": "cluster" if brokers == 3 else ""}
    brokers_too = BROKERS[1:] if cluster.get("COMPOSE_PROFILES") else ()
    chosen = (*SERVERS, *brokers_too) if servers_only else ()
    choose_passwords(FILE.parent / ENV_FILE)
    words = ["up", "--detach", "--wait", *([] if servers_only else ["--build"]), *chosen]
    if code := _run(words, os.environ | cluster, output=sys.stderr):
        raise StackError(
            f"`docker compose {' '.join(words)}` failed (exit code {code}; its output is above).",
            remedy="See `HEADRACE_STACK=docker headrace status` and `… logs SERVICE`, then run this again.",
        )
    addresses = running_addresses()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f"{name}={value}\n" for name, value in (addresses | ON_THIS_MACHINE).items()]
    write_atomically(home / COMPOSE_ENV, "".join(lines))
    return addresses


def choose_passwords(file: Path) -> None:
    """Add random passwords to the `.env` that compose reads, for servers whose password nobody has set, and close it;
    FORGET_SECRET too.

    Every later `docker compose` takes them from there. A stack that has data keeps the passwords that it has it under.
    """
    passwords = {f"{server.upper()}_PASSWORD": password for server, password in make_passwords().items()}
    passwords["FORGET_SECRET"] = new_secret()
    missing = passwords.keys() - read_variables(file.parent).keys()
    if not missing or _has_data():
        return
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    ended = "\n" if before and not before.endswith("\n") else ""
    added = "".join(f"{name}={passwords[name]}\n" for name in sorted(missing))
    write_atomically(
        file, f"{before}{ended}# Of the stack in containers, made by `headrace up` before its first start\n{added}"
    )


def _has_data() -> bool:
    volume = json.loads(_output(_compose(["config", "--format", "json"])))["volumes"]["postgres"]["name"]
    return volume in _output([_docker(), "volume", "ls", "--quiet"]).splitlines()


def down(home: Path, *, volumes: bool = False) -> bool:
    """Stop and remove the containers, and with `volumes` their data. Blocking, idempotent; False if there were none.

    Raises StackError when it fails.
    """
    there = bool(_inspect())
    if code := _run([*EVERYTHING, "down", *(["--volumes"] if volumes else [])], os.environ):
        raise StackError(f"`docker compose down` failed (exit code {code}; its output is above).")
    (home / COMPOSE_ENV).unlink(missing_ok=True)
    return there


def examine_containers() -> list[ProcessStatus]:
    """The status of every container; one-shot services are done. Raises StackError without a daemon."""
    return sorted(map(status_of_container, _inspect()), key=lambda one: one.name)


def running_addresses() -> dict[str, str]:
    """Addresses of the running containers from this machine, as `runtime.settings` reads them; empty if none runs.

    Raises StackError without a daemon.
    """
    return addresses_of_containers(_inspect())


def show_logs(names: Sequence[str], *, follow: bool, lines: int) -> int:
    """Print the services' logs on our own terminal; compose's exit code. Raises StackError without Docker."""
    following = ["--follow"] if follow else []
    return _run([*EVERYTHING, "logs", "--tail", str(lines), *following, *names], os.environ)


def _inspect() -> list[dict[str, Any]]:
    ids = _output(_compose([*EVERYTHING, "ps", "--all", "--quiet"])).split()
    found: list[dict[str, Any]] = json.loads(_output([_docker(), "inspect", *ids])) if ids else []
    return found


def _run(words: Sequence[str], environment: Mapping[str, str], output: TextIO | None = None) -> int:
    """Run compose on our own terminal; its exit code. `output`: where what it prints on stdout goes, if not there."""
    command = _compose(words)
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, check=False).returncode


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise StackError(
            f"`docker {' '.join(command[1:])}` failed (exit code {done.returncode}).",
            log_lines=done.stderr.splitlines()[-LOG_TAIL_LINES:],
            remedy="Is the Docker daemon running (`docker info`), and compose installed (`docker compose version`)?",
        )
    return done.stdout


def _compose(words: Sequence[str]) -> list[str]:
    if not FILE.exists():
        raise StackError(
            f"There is no {FILE}: this installation is not a checkout.", remedy="Run it in a checkout of the project."
        )
    return [_docker(), "compose", "--file", str(FILE), *words]


def _docker() -> str:
    if program := shutil.which("docker"):
        return program
    raise StackError(
        "HEADRACE_STACK=docker, and there is no `docker` on PATH.",
        remedy="Install Docker with its compose plugin, or leave HEADRACE_STACK out: the stack runs without it.",
    )


Inspected = Mapping[str, Any]
"""One element of the list that `docker inspect` prints."""


def status_of_container(one: Inspected) -> ProcessStatus:
    """The status of a container in the words of `headrace status`: running is alive and healthy."""
    service = service_of(one)
    number = one["Config"]["Labels"].get("com.docker.compose.container-number", "1")
    state, problem = _state(one)
    name = service if number == "1" else f"{service}-{number}"
    pid = one["State"]["Pid"] or None
    note = _note(one) if state == "running" else None
    return ProcessStatus(name, pid, state, published_port(one), one["RestartCount"], 0, problem, note)


def addresses_of_containers(found: Iterable[Inspected]) -> dict[str, str]:
    """Addresses of the running ones from this machine, in the order of `headrace env`."""
    running = {service_of(one): one for one in found if one["State"]["Running"]}
    ports = {service: port for service, one in running.items() if (port := published_port(one)) is not None}
    brokers = [ports[name] for name in BROKERS if name in ports]
    addresses = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers(brokers)} if brokers else {}
    forms: dict[str, tuple[str, Callable[[int], str]]] = {
        "DATABASE_URL": ("postgres", lambda port: database_url(port, _password_in(running["postgres"]))),
        "REDIS_URL": ("redis", lambda port: redis_url(port, _password_in(running["redis"]))),
        "ELASTICSEARCH_URL": ("elasticsearch", _http),
        "API_URL": ("api", _http),
        "MOCK_URL": ("mock-server", _http),
        "DASHBOARD_URL": ("dashboard", _http),
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
    """Paused topics, from the output of its latest health check."""
    log = (one["State"].get("Health") or {}).get("Log") or []
    said = [line for line in log[-1]["Output"].splitlines() if " is paused: " in line] if log else []
    return "; ".join(said) or None


def _password_in(server: Inspected) -> str:
    variables = dict(line.partition("=")[::2] for line in server["Config"].get("Env") or [])
    return str(variables.get(f"{service_of(server).upper()}_PASSWORD", ""))


def _http(port: int) -> str:
    return f"http://127.0.0.1:{port}"
