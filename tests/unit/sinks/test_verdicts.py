import pytest
from asyncpg import exceptions

from sinks.postgres.verdicts import is_outage, is_refusal, reason_of_refusal

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
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_an_outage_is_waited_out_and_never_blamed_on_a_record(error: Exception) -> None:
    assert is_outage(error)
    assert not is_refusal(error)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_a_refusal_is_the_records_and_never_waited_out(error: Exception) -> None:
    assert is_refusal(error)
    assert not is_outage(error)


def test_a_missing_column_is_a_bug() -> None:
    error = exceptions.UndefinedColumnError("no such column")
    assert not is_outage(error)
    assert not is_refusal(error)


def test_a_taken_unique_field_names_its_conflict() -> None:
    error = exceptions.UniqueViolationError("taken")
    error.constraint_name = "uq_customers_email"
    assert reason_of_refusal(error, "customers", ("email",)) == "email_conflict"
    assert reason_of_refusal(error, "orders", ()) == "postgres_refused"
