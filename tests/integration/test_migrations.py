"""Migrations bring an empty database to the declared schema, whoever runs them and however often."""

from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from runtime.settings import Settings
from stores.migrate import migrate
from stores.tables import all_tables


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, all_tables()))


def test_several_processes_may_migrate_an_empty_database_at_once(settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [settings] * 4))
    migrate(settings)


async def test_the_migrated_schema_is_the_declared_one(migrated_settings: Settings) -> None:
    engine = create_async_engine(migrated_settings.async_database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        assert (await connection.execute(text("SELECT nextval('row_version')"))).scalar_one() == 1
    await engine.dispose()


async def test_a_declared_table_that_is_missing_is_created_from_its_declaration(settings: Settings) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(migrate, settings).result()
        engine = create_async_engine(settings.async_database_url)
        async with engine.begin() as connection:
            await connection.execute(text("DROP TABLE normalized_data"))
        pool.submit(migrate, settings).result()
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
