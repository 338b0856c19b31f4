"""The command of a Kafka Connect worker with Debezium's JDBC sink, configured as their documentation advises."""

import datetime
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from benchmarks.peers.installing import java_command
from local_stack.addresses import assign_ports
from runtime.settings import Settings
from schemas.registry import dataset_named

TABLE = "peer_customers"
TASKS = 2
FIELDS = [field.name for field in dataset_named("customers").fields]

CREATE_TABLE = f"""CREATE TABLE {TABLE} (
    customer_id varchar(50) PRIMARY KEY, first_name varchar(100) NOT NULL, last_name varchar(100) NOT NULL,
    email varchar(255) NOT NULL UNIQUE, phone varchar(20), address text, date_of_birth date,
    account_balance numeric(15, 2))"""
"""The peers' table: the columns of customers, its key and its unique e-mail; nothing of versions and coordinates."""

TYPES: dict[str, dict[str, Any]] = {
    "date_of_birth": {"type": "int32", "name": "org.apache.kafka.connect.data.Date", "version": 1},
    "account_balance": {
        "type": "bytes",
        "name": "org.apache.kafka.connect.data.Decimal",
        "version": 1,
        "parameters": {"scale": "2"},
    },
}
SCHEMA = {
    "type": "struct",
    "optional": False,
    "fields": [
        {"field": name, "optional": name != "customer_id"} | TYPES.get(name, {"type": "string"}) for name in FIELDS
    ],
}
"""The worker is given the schema once, so that not every record has to carry it."""


def as_connect_takes_it(data: dict[str, Any]) -> bytes:
    """A clean customer with Kafka Connect's types: a date is a number of days, an amount a number. Pure."""
    born, balance = data["date_of_birth"], data["account_balance"]
    days = None if born is None else (datetime.date.fromisoformat(born) - datetime.date(1970, 1, 1)).days
    amount = msgspec.Raw(b"null" if balance is None else balance.encode())
    return msgspec.json.encode(data | {"date_of_birth": days, "account_balance": amount})


def command(settings: Settings, topic: str, folder: Path) -> list[str]:
    """Write the worker's and the connector's files into a folder, and give the words that run them.

    Raises NotInstalled.
    """
    words = java_command("connect", "org.apache.kafka.connect.cli.ConnectStandalone", "-Xmx1g", "-XX:+UseG1GC")
    port = assign_ports({"PORT": 0}, environment={}, remembered={}, free=True)["PORT"]
    worker = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "listeners": f"http://127.0.0.1:{port}",
        "offset.storage.file.filename": str(folder / "offsets"),
        "offset.flush.interval.ms": "5000",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
        "value.converter.schema.content": json.dumps(SCHEMA),
        "consumer.max.poll.records": "5000",
        "consumer.auto.offset.reset": "earliest",
        "consumer.isolation.level": "read_committed",
    }
    url = urlsplit(settings.plain_database_url)
    place = f"{url.hostname}:{url.port}{url.path}"
    connector = {
        "name": f"{settings.namespace}-customers",
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": str(TASKS),
        "topics": topic,
        "connection.url": f"jdbc:postgresql://{place}?reWriteBatchedInserts=true",
        "connection.username": url.username or "",
        "connection.password": url.password or "",
        "insert.mode": "upsert",
        "delete.enabled": "false",
        "primary.key.mode": "record_value",
        "primary.key.fields": "customer_id",
        "schema.evolution": "none",
        "collection.name.format": TABLE,
        "batch.size": "5000",
        "use.reduction.buffer": "true",
        "dialect.postgres.unnest.insert.enabled": "true",
    }
    files = {"worker.properties": worker, "connector.properties": connector}
    for name, content in files.items():
        lines = [f"{key}={value}" for key, value in content.items()]
        (folder / name).write_text("\n".join(lines) + "\n")
    return [*words, *(str(folder / name) for name in files)]
