"""Ports, passwords and addresses of a stack: chosen when it starts, and told to clients as URLs."""

import contextlib
import random
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

import psutil

from local_stack.errors import StackError
from local_stack.server import listens
from local_stack.state_folder import StackRecord

USER = DATABASE = "headrace"

PUBLIC = (
    "DATABASE_URL",
    "KAFKA_BOOTSTRAP_SERVERS",
    "REDIS_URL",
    "ELASTICSEARCH_URL",
    "API_URL",
    "MOCK_URL",
    "DASHBOARD_URL",
)
"""Variables that `headrace env` prints."""

DEFAULT_PORTS = {
    "KAFKA_PORT": 9092,
    "KAFKA_CONTROLLER_PORT": 9093,
    "POSTGRES_PORT": 5432,
    "REDIS_PORT": 6379,
    "ELASTICSEARCH_PORT": 9200,
    "ELASTICSEARCH_TRANSPORT_PORT": 9300,
    "API_PORT": 8000,
    "MOCK_PORT": 5000,
    "DASHBOARD_PORT": 8090,
}

ON_THIS_MACHINE = {
    "PRIVATE_HOSTS": "declared",  # its mock server, and servers that are tried with it, are on loopback
    "API_ACCESS": "open",  # so is the API: whoever has it listen elsewhere is told at its start
    "PERSONAL_DATA": "shown",
    # Nobody needs to be held up; benchmarks least of all.
    "API_READS_PER_MINUTE": "0",
    "API_CHANGES_PER_MINUTE": "0",
    "API_EXPENSIVE_PER_MINUTE": "0",
}
"""Settings of a stack for one person's work."""

FREE_RANGE = range(20_000, 32_000)
"""Below the ephemeral ports of Linux (32768) and macOS (49152), so that no outgoing connection takes one meanwhile."""


def addresses_of(record: StackRecord) -> dict[str, str]:
    """Every address of the stack with these ports and passwords, and the ports that our own servers bind."""
    ports, passwords = record.ports, record.passwords
    brokers = [ports[node_ports(node)[0]] for node in range(1, record.brokers + 1)]
    addresses = {
        "DATABASE_URL": database_url(ports["POSTGRES_PORT"], passwords.get("postgres", "")),
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers(brokers),
        "REDIS_URL": redis_url(ports["REDIS_PORT"], passwords.get("redis", "")),
        "ELASTICSEARCH_URL": f"http://127.0.0.1:{ports['ELASTICSEARCH_PORT']}",
        "API_URL": f"http://127.0.0.1:{ports['API_PORT']}",
        "MOCK_URL": f"http://127.0.0.1:{ports['MOCK_PORT']}",
        "API_PORT": str(ports["API_PORT"]),
        "MOCK_PORT": str(ports["MOCK_PORT"]),
    }
    if dashboard := ports.get("DASHBOARD_PORT"):  # not in a stack that an older version has started
        addresses |= {"DASHBOARD_URL": f"http://127.0.0.1:{dashboard}", "DASHBOARD_PORT": str(dashboard)}
    return addresses | {f"{server.upper()}_URL": "none" for server in record.without}


def defaults_of(record: StackRecord) -> dict[str, str]:
    """Settings that follow from what the stack is, for its stack.env: the caller's own values win."""
    secret = {"FORGET_SECRET": record.forget_secret} if record.forget_secret else {}
    replication = {} if record.brokers == 1 else {"TOPIC_REPLICATION": str(min(3, record.brokers))}
    return ON_THIS_MACHINE | secret | replication


def without_passwords(addresses: Mapping[str, str]) -> dict[str, str]:
    """The same addresses for a screen or a log."""
    return {name: plain(apart(address)[0]) for name, address in addresses.items()}


def plain(address: str) -> str:
    """An address without its options, as other programs take it, and a shell without quotes."""
    return address.partition("?")[0]


def apart(address: str) -> tuple[str, str]:
    """An address without its password, and the password: empty where there is none."""
    parts = urlsplit(address)
    user, at, place = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}{at}{place}")), unquote(password)


def node_name(node_id: int) -> str:
    """The program name of a node; the first is just `kafka`."""
    return "kafka" if node_id == 1 else f"kafka-{node_id}"


def node_ports(node_id: int) -> tuple[str, str]:
    """The variables of a node's ports: for clients, and for the controllers among each other."""
    number = "" if node_id == 1 else f"_{node_id}"
    return f"KAFKA{number}_PORT", f"KAFKA{number}_CONTROLLER_PORT"


def bootstrap_servers(ports: Iterable[int]) -> str:
    """The addresses of these nodes, as clients take them."""
    return ",".join(f"127.0.0.1:{port}" for port in ports)


def database_url(port: int, password: str, user: str = USER) -> str:
    """The URL of the database that `Postgres.prepare` makes. Contains the password, unless that is empty.

    It says that there is no TLS, since PGSSLMODE in the environment would hold otherwise.
    """
    return f"postgresql://{user}{':' * bool(password)}{password}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"


def redis_url(port: int, password: str) -> str:
    """The URL of the one database that is used. Contains the password, unless that is empty."""
    return f"redis://{USER}{':' * bool(password)}{password}@127.0.0.1:{port}/0"


def make_passwords() -> dict[str, str]:
    """A new password for each server that asks for one, of 192 random bits, in letters that a URL and SQL take as is.

    Kafka and Elasticsearch ask for none: they are reached on loopback only.
    """
    return {server: new_secret() for server in ("postgres", "redis")}


def new_secret() -> str:
    """192 random bits in 32 letters."""
    return secrets.token_urlsafe(24)


def cluster_ports(brokers: int) -> dict[str, int]:
    """The customary ports of the nodes of a Kafka cluster beyond the first: 9094 and 9095, 9096 and 9097, …"""
    return {
        variable: DEFAULT_PORTS["KAFKA_PORT"] + 2 * (node - 1) + place
        for node in range(2, brokers + 1)
        for place, variable in enumerate(node_ports(node))
    }


def claim(port: int) -> bool:
    """Claim a loopback port until this process ends. False if somebody listens on it, or has claimed it.

    A server binds its port seconds after it was chosen. Until then the claim keeps other stacks from choosing the same
    one: it is the UDP port of that number, which no server of ours uses, and which the system releases by itself.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sign:
        try:
            sign.bind(("127.0.0.1", port))
        except OSError:
            return False
        if not is_free(port):
            return False
        sign.detach()
    return True


def is_free(port: int) -> bool:
    """True if a process could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do; it lets a port be taken over from connections that are only lingering.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    # Some systems allow the bind although another process listens on all addresses.
    return not listens(port)


def assign_ports(
    defaults: Mapping[str, int],
    *,
    environment: Mapping[str, str],
    remembered: Mapping[str, int],
    free: bool,
    available: Callable[[int], bool] = claim,
) -> dict[str, int]:
    """A port for every variable of `defaults`: the variable's own value, else the remembered one, else a free one
    (with `free`), else the default.

    With `free`, a remembered port that is no longer available is replaced as well; what is chosen is claimed. Raises
    StackError when a variable is no port, or two variables name the same one.
    """
    chosen: dict[str, int] = {}
    for variable, default in defaults.items():
        if text := environment.get(variable):
            chosen[variable] = _port(variable, text)
        elif (known := remembered.get(variable)) and (not free or available(known)):
            chosen[variable] = known
        elif not free:
            chosen[variable] = default
    candidates = _free_ports(chosen, available)
    for variable in defaults:
        if variable not in chosen:
            chosen[variable] = next(candidates)
    _refuse_twins(chosen)
    return {variable: chosen[variable] for variable in defaults}


def add_ports(
    known: Mapping[str, int], defaults: Mapping[str, int], available: Callable[[int], bool] = claim
) -> dict[str, int]:
    """The known ports of a running stack, and a port for each further variable of `defaults`: its default, or a free
    one where that is taken.
    """
    ports = {variable: known[variable] for variable in defaults if variable in known}
    candidates = _free_ports(ports, available)
    for variable, default in defaults.items():
        if variable not in ports:
            fits = default not in ports.values() and available(default)
            ports[variable] = default if fits else next(candidates)
    return ports


def _free_ports(chosen: Mapping[str, int], available: Callable[[int], bool]) -> Iterator[int]:
    for port in random.sample(FREE_RANGE, len(FREE_RANGE)):
        if port not in chosen.values() and available(port):
            yield port


def _port(variable: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise StackError(f"{variable}={text!r} is not a port.", remedy=f"Set {variable} to a number from 1 to 65535.")
    return int(text)


def _refuse_twins(chosen: Mapping[str, int]) -> None:
    owners: dict[int, str] = {}
    for variable, port in chosen.items():
        if port in owners:
            raise StackError(
                f"{owners[port]} and {variable} are both {port}.", remedy=f"Set {variable} to another port."
            )
        owners[port] = variable


def require_free(ports: Mapping[str, int]) -> None:
    """Raise StackError naming every port of `ports` that is taken, by whom, and which variable moves it."""
    taken = {variable: port for variable, port in ports.items() if not is_free(port)}
    if taken:
        variable, port = next(iter(taken.items()))
        raise StackError(
            "\n".join(f"Port {port} ({name}) is taken by {_holder(port)}." for name, port in taken.items()),
            remedy=f"Stop it, or choose another port ({variable}={port + 10_000 if port < 50_000 else port - 10_000} "
            "headrace up), or let free ones be found: headrace up --free-ports",
        )


def _holder(port: int) -> str:
    """The process that listens on this port, in words."""
    for process in psutil.process_iter():
        # macOS tells this of other users' processes to root only.
        with contextlib.suppress(psutil.Error):
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp")):
                return f"{process.name()} (pid {process.pid})"
    return "a process of another user"
