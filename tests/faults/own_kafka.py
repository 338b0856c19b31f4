"""Settings for a pipeline on a Kafka of the test's own; Postgres, Redis and Elasticsearch are those of the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from local_stack.servers import RunningServers
from runtime.migrate import migrate
from runtime.settings import Settings
from runtime.topic_admin import ensure_topics
from tests.servers.contract import Servers
from tests.servers.databases import create_database, database_url, drop_database
from tests.waiting import eventually


@contextmanager
def settings_on(kafka: RunningServers, servers: Servers, home: Path, namespace: str, copies: int) -> Iterator[Settings]:
    """Topics are there, in so many copies, and a database that is dropped in the end."""
    addresses = servers.addresses | kafka.addresses
    create_database(addresses["DATABASE_URL"], namespace)
    settings = Settings(
        headrace_home=home,
        headrace_namespace=namespace,
        kafka_bootstrap_servers=addresses["KAFKA_BOOTSTRAP_SERVERS"],
        database_url=SecretStr(database_url(addresses["DATABASE_URL"], namespace)),
        redis_url=addresses["REDIS_URL"],
        elasticsearch_url=addresses["ELASTICSEARCH_URL"],
        topic_replication=copies,
    )
    migrate(settings)
    eventually(lambda: ensure_topics(settings) or True, what="the broker takes topics")
    yield settings
    drop_database(addresses["DATABASE_URL"], namespace)
