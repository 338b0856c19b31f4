"""Brings the database to the current schema; safe when every process does it at its start."""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from runtime.errors import Backpressure, Explained
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets
from stores.advisory_locks import MIGRATION, lock_until_commit
from stores.outages import STORE, in_words, is_outage, is_starting
from stores.postgres_engine import postgres_engine
from stores.row_counts import keep_row_counts
from stores.set_up_report import SetUpReport
from stores.table_fit import fit_of
from stores.tables import all_tables, dataset_table

STARTING_SECONDS = 30
"""Time that a Postgres that is not there yet may take to start."""

OUR_REVISION = re.compile(r"\d{4}(_|$)")
"""A number, and since the first release a name; Alembic's own are random."""

MIGRATIONS = Path(__file__).parent / "migrations"  # beside this module, installed or not

LOCK_SECONDS = 10
"""Time that a change of a table waits for a reader of it; everybody else's reads wait behind it."""


class UnknownSchema(Explained):
    """The database has the schema of another version, from which no migration leads here. Nothing was changed."""

    def __init__(self, revision: str) -> None:
        old = revision.isdecimal()  # as all were that came before the first release
        version = "an older version, from before the first release" if old else "a newer version"
        super().__init__(
            f"the database has the schema of {version} (revision {revision}), which no migration leads on from. "
            "Run that version again; or save what you need (`headrace up --servers-only`, then "
            "`headrace export DATASET --to DIR`), delete the stack's data with `headrace clean` (on a server of your "
            "own: use another database), and start afresh"
        )


class ForeignTables(Explained):
    """The database has tables of ours by name, and no sign that Headrace made them. Nothing was changed."""

    def __init__(self, tables: Iterable[str]) -> None:
        super().__init__(
            f"the database holds tables that Headrace did not make: {', '.join(sorted(tables))}. "
            "Let DATABASE_URL name a database of Headrace's own; an empty one is enough"
        )


def migrate(settings: Settings) -> SetUpReport:
    """Apply new migrations, create the tables that are missing, and add to those of datasets what is safe.

    So a new dataset, a new nullable field and a longer text need no migration. A table that its dataset does not fit
    all the same is left as it is, and reported. Blocking, idempotent. Waits up to 30 s for a Postgres that is starting,
    and as long as it takes for others that are migrating. All or nothing, in one transaction. Raises UnknownSchema,
    ForeignTables, OSError or sqlalchemy's DBAPIError. Not to be called in an event loop's thread.
    """
    return asyncio.run(_migrate(settings))


async def setup_schema(settings: Settings) -> SetUpReport:
    """`migrate` before a sink starts to write. Raises Backpressure while Postgres is not there."""
    try:
        return await asyncio.to_thread(migrate, settings)
    except Exception as error:
        if is_outage(error):
            raise Backpressure(STORE, in_words(error)) from error
        raise


@retry(
    retry=retry_if_exception(is_starting),
    stop=stop_after_delay(STARTING_SECONDS),
    wait=wait_random_exponential(multiplier=0.2, max=2),
    reraise=True,
)
async def _migrate(settings: Settings) -> SetUpReport:
    engine = postgres_engine(settings)
    try:
        async with engine.begin() as connection:
            await lock_until_commit(connection, MIGRATION)
            return await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def newest_revision() -> str:
    """The revision that the last migration here leads to. Each is named as its file is, and begins with its number."""
    return max(migration.stem for migration in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _upgrade(connection: Connection) -> SetUpReport:
    existing, tables = set(inspect(connection).get_table_names()), all_tables()
    known = "alembic_version" in existing
    revision = connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None
    if revision is None and (foreign := existing & tables.tables.keys()):
        raise ForeignTables(foreign)
    if revision != newest_revision():
        _bring_to_newest(connection, revision)
    existing = set(inspect(connection).get_table_names())
    of_datasets = {dataset.table for dataset in all_datasets()}
    ours = [table for table in tables.sorted_tables if table.name not in existing | of_datasets]
    tables.create_all(connection, tables=ours)
    report = SetUpReport()
    for dataset in all_datasets():
        if dataset.table in existing:
            _fit(connection, dataset, report)
        else:
            _make(connection, dataset, report)
    return report


def _bring_to_newest(connection: Connection, revision: str | None) -> None:
    """Have Alembic migrate. It takes a tenth of a second to load, and every start of a sink comes by here."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if revision is None:
        command.stamp(config, "head")
    elif revision in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
        command.upgrade(config, "head")
    else:
        raise UnknownSchema(revision) if OUR_REVISION.match(revision) else ForeignTables(["alembic_version"])


def _make(connection: Connection, dataset: Dataset, report: SetUpReport) -> None:
    """Make one dataset's table, or report what is in its place."""
    table = dataset_table(dataset)
    try:
        with connection.begin_nested():
            table.create(connection, checkfirst=False)  # which would take a view for the table
            keep_row_counts(connection, table)
    except DBAPIError as error:
        if is_outage(error):
            raise
        report.misfits[dataset.name] = (
            f"{dataset.name}: Postgres refuses to make the table {table.name}: {_first_line(error.orig)}; rename or "
            "drop what is in its place"
        )
    else:
        report.changes.append(f"{dataset.name}: the table {table.name} was made")


def _fit(connection: Connection, dataset: Dataset, report: SetUpReport) -> None:
    """Do what is safe for one dataset, all of it or, where Postgres refuses a part, nothing."""
    fit = fit_of(connection, dataset)
    report.remarks += fit.remarks
    done = [line for _, line in fit.safe]
    try:
        with connection.begin_nested():
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            for sql, _ in fit.safe:
                connection.execute(text(sql))
            if keep_row_counts(connection, dataset_table(dataset)):
                done.append(f"{dataset.name}: rows are counted as they are written")
            connection.execute(text("SET LOCAL lock_timeout = DEFAULT"))
    except DBAPIError as error:
        if is_starting(error) or error.connection_invalidated:
            raise
        wanted = "; ".join(done) or "to count its rows"
        fit.misfits.append(f"{dataset.name}: Postgres refuses a change ({wanted}): {_first_line(error.orig)}")
    else:
        report.changes += done
    if fit.misfits:
        report.misfits[dataset.name] = "; ".join(fit.misfits)


def _first_line(error: BaseException | None) -> str:
    return str(error).partition("\n")[0].rpartition(">: ")[2]
