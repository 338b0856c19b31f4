"""The meaning of a Postgres error: one table, by SQLSTATE, for who writes, who reads and who keeps a checkpoint.

A record that Postgres refuses fails alone; an outage is waited out by a stage, and answered with 503 by the API; a
table that does not fit its dataset, or that our user may not use, holds up that dataset, as anything else does that
Postgres has against its statements.
"""

from enum import Enum, auto

from asyncpg.exceptions import (
    CannotConnectNowError,
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    PostgresConnectionError,
    PostgresError,
    UniqueViolationError,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from runtime.errors import Explained

STORE = "Postgres"

GRANTED = (
    "`headrace setup`, as the owner of the tables, makes what is missing and grants the users of ROLE_USERS their "
    "rights (`headrace rights postgres` prints them)"
)
"""The way out of a missing right."""

POSTGRES_ERRORS = (OSError, PostgresError, InterfaceError, InternalClientError)
"""All that asyncpg raises when Postgres or the connection to it is in trouble."""


class Meaning(Enum):
    """Why a statement failed."""

    AWAY = auto()
    """Postgres does not answer, or takes no writes: shut down, starting, lost, full, read-only."""
    AGAIN = auto()
    """The same statement may succeed now, on a new connection: a deadlock, a lock timeout."""
    CLOSED = auto()
    """Postgres lets nobody in under this name or password, or has no such database."""
    NO_TABLE = auto()
    """The migrations have not made the table yet."""
    MISFIT = auto()
    """A column is not there, of another type or not ours to write; or something else is in the place of the table."""
    DENIED = auto()
    """Our user lacks a right: somebody has to give it."""
    STATEMENT = auto()
    """The statement is wrong in another way."""
    REFUSED = auto()
    """A record is at fault: its values, a constraint, a limit such as the size of an index row."""
    OTHER = auto()


# The longest code or class that fits counts (appendix A of the Postgres manual). 25006 is a primary that has become a
# standby, 53 disk full among others, 57 operator intervention, 58 I/O; 38, 39 and P0 are errors of functions, which
# only triggers of others can raise here, and 44 is of a view that checks. What is in the place of a table may not take
# our statements at all: a rule (0A), a view (55000), columns with values of their own (428C9), a sequence (42809).
_MEANINGS = {
    "08": Meaning.AWAY,
    "0A": Meaning.MISFIT,
    "21": Meaning.REFUSED,
    "22": Meaning.REFUSED,
    "23": Meaning.REFUSED,
    "25006": Meaning.AWAY,
    "28": Meaning.CLOSED,
    "38": Meaning.REFUSED,
    "39": Meaning.REFUSED,
    "3D000": Meaning.CLOSED,
    "40": Meaning.AGAIN,
    "42": Meaning.STATEMENT,
    "42501": Meaning.DENIED,
    "42703": Meaning.MISFIT,
    "42804": Meaning.MISFIT,
    "42809": Meaning.MISFIT,
    "42883": Meaning.MISFIT,
    "428C9": Meaning.MISFIT,
    "42P01": Meaning.NO_TABLE,
    "42P10": Meaning.MISFIT,
    "44": Meaning.REFUSED,
    "53": Meaning.AWAY,
    "54": Meaning.REFUSED,
    "55000": Meaning.MISFIT,
    "55P03": Meaning.AGAIN,
    "57": Meaning.AWAY,
    "58": Meaning.AWAY,
    "P0": Meaning.REFUSED,
}


class TableMisfit(Explained):
    """A dataset's table is not as the dataset is declared, so that it cannot be read. Others can."""


class Unavailable(Explained):
    """A store that is needed does not answer. `store` names it; `reason` is what was heard of it."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"{store}: {reason}")
        self.store = store
        self.reason = reason


def meaning(error: BaseException) -> Meaning | None:
    """The meaning of an error of asyncpg's or SQLAlchemy's; None if it has nothing to do with Postgres. Pure."""
    original = _original(error)
    # The table has been altered since the statement was prepared: a new connection prepares it again.
    if isinstance(original, InvalidCachedStatementError):
        return Meaning.AWAY
    code = _sqlstate(original)
    for known in (code, code[:2]):
        if known in _MEANINGS:
            return _MEANINGS[known]
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Meaning.AWAY
    if isinstance(original, InterfaceError):  # of a closed connection, or of one in an unknown state
        return Meaning.AWAY if "connection" in str(original) else Meaning.AGAIN
    # Nothing came in; or the server's farewell did, just before the statement went out.
    if isinstance(original, OSError | PoolTimeout | InternalClientError):
        return Meaning.AWAY
    return Meaning.OTHER if isinstance(original, PostgresError) else None


def is_outage(error: BaseException) -> bool:
    """True if the same batch is to be written again after a wait: Postgres is away, or a right is to be given."""
    return meaning(error) in (Meaning.AWAY, Meaning.AGAIN, Meaning.DENIED)


def is_starting(error: BaseException) -> bool:
    """True if Postgres is not there, or not there yet."""
    return isinstance(_original(error), CannotConnectNowError | PostgresConnectionError | OSError)


def is_refusal(error: BaseException) -> bool:
    """True if Postgres does not take a record of the batch."""
    return meaning(error) is Meaning.REFUSED


def is_misfit(error: BaseException) -> bool:
    """True if a statement of ours does not fit the table that is there."""
    return meaning(error) in (Meaning.MISFIT, Meaning.NO_TABLE, Meaning.STATEMENT)


def is_denied(error: BaseException) -> bool:
    """True if our user lacks a right."""
    return meaning(error) is Meaning.DENIED


def is_unavailable(error: BaseException) -> bool:
    """True if Postgres cannot answer now, whoever asks."""
    return meaning(error) in (Meaning.AWAY, Meaning.CLOSED, Meaning.NO_TABLE)


def postgres_trouble(error: BaseException) -> str | None:
    """Why Postgres cannot answer us now, or None if the error is the statement's own fault."""
    if not (is_unavailable(error) or is_denied(error)):
        return None
    original = _original(error)
    if isinstance(original, PoolTimeout):
        return "all connections of the pool are busy"
    if isinstance(original, InvalidCachedStatementError):
        return "a table has just been altered"
    if isinstance(original, TimeoutError):
        return "no answer in time"
    if isinstance(original, OSError):
        return original.strerror or str(original) or type(original).__name__
    if isinstance(original, InternalClientError):
        return f"a connection was lost ({_first_line(original)})"
    code = _sqlstate(original)
    if is_denied(error):
        return f"{_first_line(original)}; {GRANTED}"
    return f"{_first_line(original)} (SQLSTATE {code})" if code else _first_line(original)


def table_trouble(error: BaseException, *, of_valid_rows: bool = False) -> str | None:
    """Why a table does not fit a statement of ours, or None if that is not the trouble.

    `of_valid_rows`: what it writes is valid as declared, so that a refusal is the table's fault as well.
    """
    troubles = {Meaning.MISFIT, Meaning.REFUSED} if of_valid_rows else {Meaning.MISFIT}
    return _first_line(_original(error)) if meaning(error) in troubles else None


def reason_of_refusal(error: BaseException, table: str, unique: tuple[str, ...]) -> str:
    """The reason code for failures: `<field>_conflict` for a unique field, otherwise `postgres_refused`."""
    if isinstance(error, UniqueViolationError):
        for field in unique:
            if getattr(error, "constraint_name", None) == f"uq_{table}_{field}":
                return f"{field}_conflict"
    return "postgres_refused"


def in_words(error: BaseException) -> str:
    """One line for people, which begins with the error's class; of a missing right with the way out."""
    line = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
    return f"{line}; {GRANTED}" if is_denied(error) else line


def _original(error: BaseException) -> BaseException:
    """The error that asyncpg raised, where SQLAlchemy and its adapter have wrapped it."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return error
    return error.orig.__cause__ or error.orig


def _sqlstate(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
