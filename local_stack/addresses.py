"""Where a stack is reached, as `runtime.settings` and other programs read it."""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

from local_stack.postgres_roles import DATABASE, USER
from local_stack.state_folder import StackRecord

PUBLIC = (
    "DATABASE_URL",
    "KAFKA_BOOTSTRAP_SERVERS",
    "REDIS_URL",
    "ELASTICSEARCH_URL",
    "API_URL",
    "MOCK_URL",
)
"""What `headrace env` prints."""


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
    return addresses | {f"{server.upper()}_URL": "none" for server in record.without}


def defaults_of(record: StackRecord) -> dict[str, str]:
    """Settings that follow from how the stack was laid out, for its stack.env: the caller's own values win."""
    return {} if record.brokers == 1 else {"TOPIC_REPLICATION": str(min(3, record.brokers))}


def without_passwords(addresses: Mapping[str, str]) -> dict[str, str]:
    """The same addresses for a screen or a log."""
    return {name: apart(address)[0] for name, address in addresses.items()}


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
    """The URL of the database that `Postgres.prepare` makes. Contains the password, unless that is empty."""
    return f"postgresql://{user}{':' * bool(password)}{password}@127.0.0.1:{port}/{DATABASE}"


def redis_url(port: int, password: str) -> str:
    """The URL of the one database that is used. Contains the password, unless that is empty."""
    return f"redis://{USER}{':' * bool(password)}{password}@127.0.0.1:{port}/0"
