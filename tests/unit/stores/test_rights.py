"""The rights of each role name all that there is, and nothing that there is not."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from local_stack.programs import ROLES
from runtime.settings import Settings
from schemas.registry import all_datasets
from schemas.sinks import SINKS
from schemas.topics import all_topics
from stores.grants import document, kafka_rights, postgres_users, redis_users, roles_at, table_grants
from stores.rights import EVERY, OPERATOR, RIGHTS, STORED, VERSIONS, WRITTEN, declared, tables_of
from stores.tables import all_tables

PROJECT = Path(__file__).parents[3]
CHART: dict[str, Any] = yaml.safe_load((PROJECT / "deploy/kubernetes/values.yaml").read_text())["roles"]
WITHOUT_SERVERS = {"mock-server", "dashboard", "watchdog"}
SOURCES = [
    file
    for folder in ("api", "sinks", "services", "stores", "monitoring", "producers", "stream_processors", "commands")
    for file in (PROJECT / folder).rglob("*.py")
]


def test_every_process_has_its_rights() -> None:
    assert {*RIGHTS} == {role.name for role in ROLES} - WITHOUT_SERVERS | {OPERATOR}
    assert {sink.group for sink in SINKS} <= RIGHTS.keys()


@pytest.mark.parametrize("server", ["kafka", "postgres", "redis"])
def test_a_role_has_rights_at_the_servers_that_the_chart_lets_it_reach(server: Any) -> None:
    reaching = {role for role, about in CHART.items() if server in about["reaches"]}
    assert set(roles_at(server)) - {OPERATOR} == reaching


def test_every_table_is_some_roles_and_every_table_that_is_named_exists() -> None:
    """A table that is added needs its line; the operator's rights on every table do not count."""
    named = {table for role in RIGHTS if role != OPERATOR for table in tables_of(role)}
    # People alone write the list of what is forgotten, and API keys.
    assert named == {*all_tables().tables, VERSIONS}
    assert set(tables_of(OPERATOR)) == {*all_tables().tables}


def test_every_table_is_written_by_somebody() -> None:
    written = {table for role in RIGHTS for table, rights in tables_of(role).items() if "INSERT" in rights}
    assert written == {*all_tables().tables}


def test_a_new_dataset_has_rights_by_its_declaration() -> None:
    for dataset in all_datasets():
        stored = dataset.written_by == "pipeline"
        assert ("INSERT" in tables_of("sink-postgres").get(dataset.table, "")) is stored, dataset.name
        assert ("INSERT" in tables_of("api")[dataset.table]) is not stored, dataset.name
    assert {STORED, WRITTEN} <= declared("api").keys()
    assert declared(OPERATOR).keys() == {EVERY}


def test_nobody_but_the_owner_empties_or_changes_tables() -> None:
    granted = {word for role in RIGHTS for rights in tables_of(role).values() for word in re.findall("[A-Z]+", rights)}
    assert granted == {"SELECT", "INSERT", "UPDATE", "DELETE"}


def test_a_right_on_a_table_takes_the_place_of_that_on_its_columns() -> None:
    assert tables_of("sink-postgres")["ingest_failures"] == "SELECT, INSERT, UPDATE"
    assert tables_of("sink-landing")["raw_api_data"] == "SELECT, INSERT, UPDATE (partition, topic)"


def test_columns_that_are_named_exist() -> None:
    tables = all_tables().tables
    for role in RIGHTS:
        for table, rights in tables_of(role).items():
            columns = {column for some in re.findall(r"\(([^)]*)\)", rights) for column in some.split(", ")}
            assert columns <= set(tables[table].c.keys() if columns else ()), (role, table)


def test_every_command_of_a_script_is_allowed() -> None:
    used = {command for file in SOURCES for command in re.findall(r"redis\.call\('([A-Z]+)'", file.read_text())}
    assert {"EXISTS", "INCRBY"} <= used
    assert used <= {command for role in RIGHTS for command in RIGHTS[role].redis.commands}


ON_EVERY_CONNECTION = {"PING"}
OTHER_NAMES = {"DELETE": "DEL"}
NO_COMMANDS = {"ACLOSE", "FROM_URL", "PIPELINE", "REGISTER_SCRIPT"}


def test_every_command_that_a_client_sends_is_allowed() -> None:
    used = {OTHER_NAMES.get(name, name) for file in SOURCES for name in _sent(file)} - NO_COMMANDS - ON_EVERY_CONNECTION
    assert {"SCAN", "HMGET", "DEL"} <= used
    assert used <= {command for role in RIGHTS for command in RIGHTS[role].redis.commands}


def _sent(file: Path) -> set[str]:
    """Names of methods of redis-py that are called on what is named like its client."""
    text = file.read_text()
    clients = r"(redis|pipeline|client)$" if "stores.redis_client" in text else r"(redis|pipeline)$"
    called = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    methods = [one for one in called if isinstance(one, ast.Attribute) and re.search(clients, ast.unparse(one.value))]
    return {one.attr.upper() for one in methods if hasattr(Redis, one.attr)}


def test_a_role_reads_and_writes_the_topics_that_the_registry_says() -> None:
    for topic in all_topics():
        for reader in topic.read_by:
            assert topic.kind in RIGHTS[reader].kafka.reads, (topic.name, reader)


def test_names_begin_with_the_namespace_and_users_with_their_prefix() -> None:
    settings = Settings(headrace_namespace="shop")
    assert all(" ~shop.cache:* " in line for line in redis_users(settings))
    assert all("SETUSER other_" in line for line in redis_users(settings, "other_"))
    assert {name.partition(".")[0] for right in kafka_rights("api", settings) for name in right.names} == {"shop", "*"}
    assert all("other_" in statement for statement in table_grants("api", "other_"))
    assert "other_api LOGIN" in " ".join(postgres_users("shop", "other_"))


def test_the_page_of_rights_is_current() -> None:
    page = PROJECT / "docs/rights.md"
    assert page.read_text() == document(), f"python -m stores.grants > {page.relative_to(PROJECT)}"
