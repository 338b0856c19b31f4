import pytest
from asyncpg import exceptions
from sqlalchemy.exc import DBAPIError

from stores.outages import (
    in_words,
    is_misfit,
    is_outage,
    is_refusal,
    meaning,
    postgres_trouble,
    reason_of_refusal,
    table_trouble,
)

OUTAGES = [
    exceptions.DiskFullError("full"),
    exceptions.TooManyConnectionsError("many"),
    exceptions.AdminShutdownError("down"),
    exceptions.CannotConnectNowError("starting"),
    exceptions.ReadOnlySQLTransactionError("read only"),
    exceptions.DeadlockDetectedError("deadlock"),
    exceptions.ConnectionDoesNotExistError("gone"),
    ConnectionRefusedError(),
    TimeoutError(),
]
REFUSALS = [
    exceptions.StringDataRightTruncationError("too long"),
    exceptions.NumericValueOutOfRangeError("too big"),
    exceptions.UniqueViolationError("taken"),
    exceptions.NotNullViolationError("null"),
    exceptions.RaiseError("a trigger of somebody's"),
    exceptions.AssertError("a trigger of somebody's"),
    exceptions.ExternalRoutineError("a trigger of somebody's in C"),
    exceptions.WithCheckOptionViolationError("a view that checks"),
]
MISFITS = [
    exceptions.UndefinedColumnError("no such column"),
    exceptions.WrongObjectTypeError("a sequence"),
    exceptions.FeatureNotSupportedError("a rule"),
    exceptions.ObjectNotInPrerequisiteStateError("a view"),
    exceptions.GeneratedAlwaysError("a column with values of its own"),
    exceptions.InvalidColumnReferenceError("no unique constraint"),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_an_outage_is_waited_out_and_never_blamed_on_a_record(error: Exception) -> None:
    assert is_outage(error)
    assert not is_refusal(error)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_a_record_that_postgres_refuses_is_at_fault_and_nothing_is_waited_for(error: Exception) -> None:
    assert is_refusal(error)
    assert not is_outage(error)


@pytest.mark.parametrize("error", MISFITS, ids=lambda error: type(error).__name__)
def test_what_is_no_such_table_as_is_declared_is_blamed_on_no_record_and_told(error: Exception) -> None:
    assert not is_outage(error)
    assert not is_refusal(error)
    assert is_misfit(error)
    assert postgres_trouble(error) is None
    assert table_trouble(error) == str(error)


def test_a_refusal_of_what_is_valid_as_declared_is_the_fault_of_the_table() -> None:
    for error in REFUSALS:
        assert table_trouble(error) is None
        assert table_trouble(error, of_valid_rows=True) == str(error)
    for error in OUTAGES:
        assert table_trouble(error, of_valid_rows=True) is None


def test_a_taken_unique_field_names_its_conflict() -> None:
    error = exceptions.UniqueViolationError("taken")
    error.constraint_name = "uq_customers_email"
    assert reason_of_refusal(error, "customers", ("email",)) == "email_conflict"
    assert reason_of_refusal(error, "orders", ()) == "postgres_refused"


def wrapped(original: Exception) -> DBAPIError:
    """As SQLAlchemy's adapter of asyncpg raises it."""
    translated = Exception(f"{type(original)}: {original}")
    translated.__cause__ = original
    return DBAPIError("SELECT 1", None, translated)


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_an_error_of_asyncpg_means_the_same_when_sqlalchemy_raises_it(error: Exception) -> None:
    assert meaning(wrapped(error)) is meaning(error)


def test_a_deadlock_is_tried_again_by_a_sink_and_is_no_outage_to_a_reader() -> None:
    error = exceptions.DeadlockDetectedError("deadlock")
    assert is_outage(error)
    assert postgres_trouble(error) is None


def test_a_password_that_is_refused_is_told_to_readers_and_ends_a_sink() -> None:
    error = exceptions.InvalidPasswordError("no")
    assert postgres_trouble(error) == "no (SQLSTATE 28P01)"
    assert not is_outage(error)


def test_a_statement_prepared_for_an_altered_table_is_prepared_again() -> None:
    error = wrapped(exceptions.InvalidCachedStatementError("cached statement plan is invalid"))
    assert is_outage(error)
    assert postgres_trouble(error) == "a table has just been altered"


DENIED = exceptions.InsufficientPrivilegeError("permission denied for table customers")


@pytest.mark.parametrize("error", [DENIED, wrapped(DENIED)], ids=["asyncpg", "SQLAlchemy"])
def test_a_right_that_is_missing_is_waited_for_and_told_with_the_way_out(error: Exception) -> None:
    """No record is to blame, the process need not die, and readers get a reason instead of an error of ours."""
    assert is_outage(error)
    assert not is_refusal(error)
    for told in (postgres_trouble(error), in_words(error)):
        assert told is not None
        assert "permission denied for table customers" in told
        assert "`headrace rights postgres`" in told
