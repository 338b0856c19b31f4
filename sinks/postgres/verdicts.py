"""What a Postgres error means: an outage to wait out, a record that Postgres refuses, or a bug to crash on."""

from asyncpg.exceptions import (
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    PostgresError,
    UniqueViolationError,
)

STORE = "Postgres"

# SQLSTATE classes (appendix A of the Postgres manual): 08 connection, 25006 read-only (the old primary after a
# failover), 40 rolled back (deadlock, serialization), 53 out of resources (disk full among them), 55P03 lock timeout,
# 57 operator intervention, 58 I/O.
_OUTAGES = ("08", "25006", "40", "53", "55P03", "57", "58")

# 21 cardinality, 22 data, 23 integrity, 54 limits such as the size of an index row: the record is at fault.
_REFUSALS = ("21", "22", "23", "54")

# 42: a column or table that is not there, is of another type, or may not be used. In a statement of ours it means that
# the table is not the declared one.
_MISFITS = ("42",)


def is_outage(error: BaseException) -> bool:
    """Whether to wait and write the same batch again."""
    if isinstance(error, InvalidCachedStatementError):
        return True  # a table has been altered since the statement was prepared; a new connection prepares it anew
    if isinstance(error, PostgresError):
        return _sqlstate(error).startswith(_OUTAGES)
    # asyncpg's own errors here mean a connection that was lost or is in an unknown state: it is replaced.
    return isinstance(
        error,
        OSError | TimeoutError | InterfaceError | InternalClientError,
    )


def is_refusal(error: BaseException) -> bool:
    """Whether a record in the batch is what Postgres does not take."""
    return isinstance(error, PostgresError) and _sqlstate(error).startswith(_REFUSALS)


def is_misfit(error: PostgresError) -> bool:
    """Whether the statement does not fit the table that is there."""
    return _sqlstate(error).startswith(_MISFITS)


def _sqlstate(error: PostgresError) -> str:
    return getattr(error, "sqlstate", None) or ""


def reason_of_refusal(error: BaseException, table: str, unique: tuple[str, ...]) -> str:
    """The reason code for failures: `<field>_conflict` for a unique field, otherwise `postgres_refused`."""
    if isinstance(error, UniqueViolationError):
        for field in unique:
            if getattr(error, "constraint_name", None) == f"uq_{table}_{field}":
                return f"{field}_conflict"
    return "postgres_refused"


def in_words(error: BaseException) -> str:
    """One line for people."""
    return f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
