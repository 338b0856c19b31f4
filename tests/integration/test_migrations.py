"""Set-up brings an empty database, or one of the first release, to the declared schema, and refuses any other's."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from runtime.settings import Settings
from stores.migrate import MIGRATIONS, ForeignTables, migrate, newest_revision
from stores.postgres_engine import postgres_engine
from stores.tables import all_tables
from tests.processes import PROJECT, environment_of

FIRST_SCHEMA = Path(__file__).with_name("first_schema.sql")


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, all_tables()))


def test_several_processes_may_migrate_an_empty_database_at_once(settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [settings] * 4))
    migrate(settings)


async def test_the_migrated_schema_is_the_declared_one(migrated_settings: Settings) -> None:
    engine = postgres_engine(migrated_settings)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        assert (await connection.execute(text("SELECT nextval('row_version')"))).scalar_one() == 1
    await engine.dispose()


def test_a_schema_that_is_current_is_found_so_without_loading_alembic(migrated_settings: Settings) -> None:
    code = (
        "import sys; from runtime.settings import load_settings; from stores.migrate import migrate; "
        "migrate(load_settings()); print('alembic' in sys.modules)"
    )
    environment = os.environ | environment_of(migrated_settings)
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_a_migration_is_named_as_its_file_is_and_the_newest_is_where_all_lead() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()] == [
        migration.stem for migration in sorted((MIGRATIONS / "versions").glob("*.py"), reverse=True)
    ]
    assert newest_revision() == scripts.get_current_head()


async def test_the_schema_of_the_first_release_is_migrated_to_the_declared_one(settings: Settings) -> None:
    """Where this fails, a declared table has changed: write a migration (docs/datasets.md)."""
    await execute(settings, FIRST_SCHEMA.read_text())
    await asyncio.to_thread(migrate, settings)
    engine = postgres_engine(settings)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


@pytest.mark.parametrize(("revision", "whose"), [("0001", "an older version"), ("0018", "an older version"),
                                                 ("0002_coverage", "a newer version")])  # fmt: skip
async def test_a_database_of_another_version_is_refused_in_a_line_that_says_how_to_go_on(
    migrated_settings: Settings, revision: str, whose: str
) -> None:
    await execute(migrated_settings, f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608
    await execute(migrated_settings, "DROP TABLE run_profiles")
    command = [sys.executable, "-m", "cli", "setup", "--go-on"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=PROJECT, env=os.environ | environment_of(migrated_settings), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    *waited, line = done.stderr.splitlines()
    assert all(one.startswith("Waiting for ") for one in waited), "which a busy machine takes a second for"
    assert f"the schema of {whose}" in line
    assert f"(revision {revision})" in line
    assert "`headrace up --servers-only`, then `headrace export DATASET --to DIR`" in line
    assert "`headrace clean`" in line
    tables = await execute(migrated_settings, "SELECT to_regclass('run_profiles')")
    assert tables == [(None,)], "nothing was changed"


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("CREATE TABLE customers (id int); CREATE TABLE visits (id int); CREATE TABLE coverage (id int)",
         "customers"),
        ("CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('ae1027a6acf3')",
         "alembic_version"),
    ],
)  # fmt: skip
async def test_a_database_of_somebody_else_is_refused_and_left_as_it_is(
    settings: Settings, sql: str, named: str
) -> None:
    await execute(settings, sql)
    tables = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    before = await execute(settings, tables)
    with pytest.raises(ForeignTables, match=rf"Headrace did not make: [a-z_, ]*{named}.*DATABASE_URL"):
        await asyncio.to_thread(migrate, settings)
    assert await execute(settings, tables) == before


async def execute(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    connect: Any = asyncpg.connect
    connection = await connect(settings.plain_database_url)
    try:
        if not sql.startswith("SELECT"):
            await connection.execute(sql)
            return []
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def test_a_declared_table_that_is_missing_is_created_from_its_declaration(settings: Settings) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(migrate, settings).result()
        engine = postgres_engine(settings)
        async with engine.begin() as connection:
            await connection.execute(text("DROP TABLE normalized_data"))
        pool.submit(migrate, settings).result()
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
