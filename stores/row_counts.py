"""Exact numbers of stored rows, kept by triggers in the rows' own transactions: reading one costs nothing.

Whoever writes a dataset's table is counted: a sink, the API, a person at a prompt. Counts lie in some rows per table,
its buckets, of which only the sum means anything. A writer counts where nobody else does at the time: a sink by the raw
partition of its rows, whose coverage it has locked anyway; who has no raw partition, by session. See decision 0045.
"""

from sqlalchemy import Connection, Table, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from stores.tables import row_counts

OF_TABLE = f"SELECT coalesce(sum(rows), 0)::bigint FROM {row_counts.name} WHERE table_name = "  # noqa: S608 (our name)
"""A query, to be ended by the table's name or by its parameter."""

_READ = text(f"{OF_TABLE}:table")

SESSION_BUCKETS = 16

# A statement that changes no row, or rows only, leaves an empty transition table: then nothing is written here.
# One order of buckets, so that no two statements wait for each other.
_FUNCTION = f"""
CREATE FUNCTION count_stored_rows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign CONSTANT int := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM row_counts WHERE table_name = TG_TABLE_NAME;
    ELSIF TG_ARGV[0] = 'partition' THEN
        INSERT INTO row_counts AS c (table_name, bucket, rows)
        SELECT TG_TABLE_NAME, raw_partition, sign * count(*) FROM counted GROUP BY raw_partition ORDER BY raw_partition
        ON CONFLICT (table_name, bucket) DO UPDATE SET rows = c.rows + excluded.rows;
    ELSE
        INSERT INTO row_counts AS c (table_name, bucket, rows)
        SELECT TG_TABLE_NAME, pg_backend_pid() % {SESSION_BUCKETS}, sign * count(*) FROM counted HAVING count(*) > 0
        ON CONFLICT (table_name, bucket) DO UPDATE SET rows = c.rows + excluded.rows;
    END IF;
    RETURN NULL;
END $$"""  # noqa: S608 (a number)

_TRIGGERS = {
    "count_inserted": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS counted",
    "count_deleted": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS counted",
    "count_truncated": "AFTER TRUNCATE ON {table}",
}

_FUNCTION_THERE = text("SELECT EXISTS (SELECT FROM pg_proc WHERE oid = to_regproc('count_stored_rows'))")

_TRIGGERS_THERE = text("""
    SELECT count(*) FROM pg_trigger
    WHERE tgrelid = to_regclass(quote_ident(:table)) AND tgname = ANY(:names) AND tgenabled IN ('O', 'A')""")


async def rows_stored(connection: AsyncConnection, table: str) -> int:
    """The number of rows in a dataset's table, as `SELECT count(*)` in the same snapshot gives it; some 50 µs."""
    return int((await connection.execute(_READ, {"table": table})).scalar_one())


async def compare_count(connection: AsyncConnection, table: str) -> tuple[int, int]:
    """The number of rows as it is kept, and as it is counted in the same snapshot. Reads the whole table."""
    counted = f'({OF_TABLE}:table), (SELECT count(*) FROM "{table}")'  # noqa: S608 (a declared table's name)
    kept, there = (await connection.execute(text(f"SELECT {counted}"), {"table": table})).one()
    return kept, there


def keep_row_counts(connection: Connection, table: Table) -> bool:
    """Have the rows of this table counted from now on; True if they were not. Idempotent, in the caller's transaction.

    The first time it counts what is stored, keeping writers out until the transaction ends.
    """
    found = connection.execute(_TRIGGERS_THERE, {"table": table.name, "names": list(_TRIGGERS)})
    if found.scalar_one() == len(_TRIGGERS):
        return False
    if not connection.execute(_FUNCTION_THERE).scalar_one():
        connection.execute(text(_FUNCTION))
    connection.execute(_locked(table))
    bucket = "partition" if "raw_partition" in table.c else "session"
    for name, event in _TRIGGERS.items():
        connection.execute(text(f'DROP TRIGGER IF EXISTS {name} ON "{table.name}"'))
        when = event.format(table=f'"{table.name}"')
        connection.execute(text(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION count_stored_rows('{bucket}')"))
    recount(connection, table)
    return True


def recount(connection: Connection, table: Table) -> None:
    """Count the table's rows, in place of what is kept. In the caller's transaction, until whose end nobody writes."""
    connection.execute(_locked(table))
    connection.execute(row_counts.delete().where(row_counts.c.table_name == table.name))
    counted = f'SELECT :table, 0, count(*) FROM "{table.name}"'  # noqa: S608 (a declared table's name)
    connection.execute(text(f"INSERT INTO row_counts (table_name, bucket, rows) {counted}"), {"table": table.name})


def _locked(table: Table) -> TextClause:
    return text(f'LOCK TABLE "{table.name}" IN SHARE ROW EXCLUSIVE MODE')
