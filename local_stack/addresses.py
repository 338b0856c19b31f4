"""Where a stack is reached, as `runtime.settings` and other programs read it."""

from local_stack.kafka import bootstrap_servers, node_ports
from local_stack.postgres import database_url
from local_stack.redis import redis_url
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
    """Every address of the stack with these ports, and the ports that our own servers bind."""
    ports = record.ports
    brokers = [ports[node_ports(node)[0]] for node in range(1, record.brokers + 1)]
    addresses = {
        "DATABASE_URL": database_url(ports["POSTGRES_PORT"]),
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers(brokers),
        "REDIS_URL": redis_url(ports["REDIS_PORT"]),
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
