"""The verdict that a store does not answer, and how Postgres' many ways to say so are recognised."""

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from runtime.errors import Explained

# SQLSTATE classes and codes (Postgres, appendix A): connection exceptions, wrong user or password, out of resources,
# operator intervention (shutdown, starting up, cancelled by statement_timeout), system errors, read-only transaction
# after a failover, and a table that the migrations have not made yet.
_UNAVAILABLE = ("08", "28", "53", "57", "58", "25006", "3D000", "42P01")


# A column that is not there or of another type, a function for such types.
_MISFITS = ("42703", "42804", "42883")


class TableMisfit(Explained):
    """A dataset's table is not as the dataset is declared, so that it cannot be read. Others can."""


class Unavailable(Explained):
    """A store that is needed does not answer. `store` names it; `reason` is what was heard of it."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"{store}: {reason}")
        self.store = store
        self.reason = reason


def postgres_trouble(error: BaseException) -> str | None:
    """Why Postgres cannot answer now, or None if the error is the statement's own fault."""
    if isinstance(error, PoolTimeout):
        return "all connections of the pool are busy"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlstate", None)
    if isinstance(code, str) and code.startswith(_UNAVAILABLE):
        return f"{_first_line(original)} (SQLSTATE {code})"
    if code == "0A000" and "cached statement plan" in str(original):
        return "a table has just been altered"
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _first_line(original)
    # asyncpg says so of a connection that closed under a statement, with no SQLSTATE.
    if "connection" in str(original) and type(original).__name__ in {"InterfaceError", "ConnectionDoesNotExistError"}:
        return _first_line(original)
    # And this where the server's farewell came in just before the statement went out.
    if type(original).__name__ == "InternalClientError":
        return f"a connection was lost ({_first_line(original)})"
    return None


def table_trouble(error: BaseException) -> str | None:
    """Why a table does not fit a statement of ours, or None if that is not the trouble."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return _first_line(original) if getattr(original, "sqlstate", None) in _MISFITS else None


def _first_line(error: BaseException | None) -> str:
    text = str(error).partition("\n")[0]
    # SQLAlchemy's adapter puts asyncpg's class in front: `<class 'asyncpg.…'>: text`.
    return text.rpartition(">: ")[2] or type(error).__name__
