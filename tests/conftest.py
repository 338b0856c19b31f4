"""Fixtures that every test may use. Servers start when the first test asks for them, once per session."""

import gc
import logging
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling

from local_stack.servers import RunningServers
from runtime.kafka.clients import QUIET
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings
from schemas.topics import all_topics
from tests.object_store import TestBucket
from tests.processes import free_port
from tests.servers.choice import choice, start_chosen
from tests.servers.contract import Servers
from tests.servers.databases import create_database, database_url, drop_database
from tests.servers.rclone_s3 import RcloneS3

TEMPLATE = "headrace_template"

ON_ONE_STACK = ("tests/contract/", "tests/e2e/stack/")

EACH_ALONE = "tests/faults/"

# A busy machine makes no example wrong. The gate tries the same examples every time, so what it says depends on the
# code alone; the nightly run looks for new ones. A count in a test would override all three.
hypothesis.settings.register_profile("gate", deadline=None, derandomize=True)
hypothesis.settings.register_profile("few", deadline=None, derandomize=True, max_examples=10)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile("gate")

# The sources of tests are on loopback, as a local stack's are.
os.environ["PRIVATE_HOSTS"] = "declared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """For another back end it is enough to run what takes its servers from there."""
    parser.addoption("--on-servers", action="store_true", help="only tests that use the fixture `servers`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`--on-servers` leaves out the tests without servers, and those that start a stack of their own."""
    if not config.getoption("--on-servers"):
        return
    config.hook.pytest_deselected(items=[item for item in items if not _on_servers(item)])
    items[:] = filter(_on_servers, items)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay until the end: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Commands that a test starts can be interrupted, also where whoever started the tests ignores Ctrl-C (`… &`)."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class WithOneStackPerSuite(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps a file on one worker, and a suite whose tests share a stack: to start it takes most of a minute.

    Tests that share nothing and last a minute each are handed out one by one.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(EACH_ALONE):
            return nodeid
        file: str = super()._split_scope(nodeid)
        return next((suite for suite in ON_ONE_STACK if file.startswith(suite)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> WithOneStackPerSuite:
    """However the workers are asked for."""
    return WithOneStackPerSuite(config, log)


def pytest_report_header() -> str:
    """The back end that the servers come from."""
    return str(choice())


@pytest.fixture(autouse=True)
def _logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test runs in this process sets no level and no handler for the tests after it."""
    monkeypatch.setattr("structlog.configure", lambda **_: None)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Real servers for the whole session."""
    running = start_chosen()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def migrated_template(servers: Servers) -> str:
    """The name of a database with the current schema, to copy from."""
    from stores.migrate import migrate

    create_database(servers.addresses["SUPERUSER_DATABASE_URL"], TEMPLATE)
    migrate(_settings(servers, "", TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def object_store() -> Iterator[tuple[RcloneS3, RunningServers]]:
    """A real S3 server for the session."""
    home = Path(tempfile.mkdtemp(prefix="headrace-s3-"))
    store = RcloneS3(home, free_port())
    running = RunningServers([store], home)
    try:
        running.start()
        yield store, running
    finally:
        running.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def bucket(object_store: tuple[RcloneS3, RunningServers]) -> TestBucket:
    """An empty bucket that no other test has, on a real S3 server."""
    return TestBucket(f"b-{uuid.uuid4().hex[:10]}", *object_store).make()


@pytest.fixture
def namespace() -> str:
    """A name that no other test has."""
    return _new_namespace()


@pytest.fixture
def settings(servers: Servers, namespace: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings for a pipeline of this test's own, with an empty database and no topics yet."""
    create_database(servers.addresses["SUPERUSER_DATABASE_URL"], namespace)
    yield _settings(servers, namespace, namespace, tmp_path)
    drop_database(servers.addresses["SUPERUSER_DATABASE_URL"], namespace)


@pytest.fixture
def migrated_settings(servers: Servers, namespace: str, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    """The same with the current schema in the database, and no topics yet."""
    with _migrated(servers, namespace, migrated_template, tmp_path) as settings:
        yield settings


@pytest.fixture
def pipeline_settings(migrated_settings: Settings) -> Iterator[Settings]:
    """The same with all topics: all that a pipeline needs before its first process starts."""
    with _topics(migrated_settings):
        yield migrated_settings


@pytest.fixture
async def postgres(migrated_settings: Settings) -> AsyncIterator[Any]:
    """A connection to the test's database, as the owner of its tables."""
    connect: Any = asyncpg.connect
    connection = await connect(migrated_settings.plain_database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def shared_pipeline_settings(
    servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The same for all tests of a file, whose processes start once then: use keys and sources of your own."""
    home = tmp_path_factory.mktemp("shared")
    with _migrated(servers, _new_namespace(), migrated_template, home) as settings, _topics(settings):
        yield settings


@contextmanager
def _migrated(servers: Servers, namespace: str, template: str, home: Path) -> Iterator[Settings]:
    create_database(servers.addresses["SUPERUSER_DATABASE_URL"], namespace, template)
    yield _settings(servers, namespace, namespace, home)
    drop_database(servers.addresses["SUPERUSER_DATABASE_URL"], namespace)


@contextmanager
def _topics(settings: Settings) -> Iterator[None]:
    ensure_topics(settings)
    yield
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})
    for deletion in admin.delete_topics([settings.named(topic.name) for topic in all_topics()]).values():
        deletion.result()


def _new_namespace() -> str:
    return f"t-{uuid.uuid4().hex[:10]}"


def _on_servers(item: pytest.Item) -> bool:
    return "servers" in getattr(item, "fixturenames", ())


def _settings(servers: Servers, namespace: str, database: str, home: Path = Path()) -> Settings:
    addresses = servers.addresses
    return Settings(
        headrace_home=home,
        api_access="open",
        headrace_namespace=namespace,
        kafka_bootstrap_servers=addresses["KAFKA_BOOTSTRAP_SERVERS"],
        database_url=SecretStr(database_url(addresses["DATABASE_URL"], database)),
        redis_url=SecretStr(addresses["REDIS_URL"]),
        elasticsearch_url=addresses["ELASTICSEARCH_URL"],
        personal_data="shown",
        forget_secret=SecretStr("the secret of the tests, for hashes of keys"),
    )
