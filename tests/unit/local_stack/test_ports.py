import pytest

from local_stack.addresses import FREE_RANGE, assign_ports
from local_stack.errors import StackError

DEFAULTS = {"KAFKA_PORT": 9092, "REDIS_PORT": 6379}


def assign(
    *, environment: dict[str, str] | None = None, remembered: dict[str, int] | None = None, free: bool = False
) -> dict[str, int]:
    return assign_ports(
        DEFAULTS,
        environment=environment or {},
        remembered=remembered or {},
        free=free,
        available=lambda port: port != 21_000,
    )


def test_the_default_ports_are_used_when_nothing_else_was_asked_for() -> None:
    assert assign() == DEFAULTS


def test_a_port_from_a_variable_wins_over_the_remembered_port() -> None:
    found = assign(environment={"KAFKA_PORT": "1234"}, remembered={"KAFKA_PORT": 5678, "REDIS_PORT": 4321})
    assert found == {"KAFKA_PORT": 1234, "REDIS_PORT": 4321}


def test_free_ports_are_distinct_and_below_the_ephemeral_ones() -> None:
    found = assign(free=True)
    assert len(set(found.values())) == 2
    assert all(port in FREE_RANGE for port in found.values())


def test_a_second_start_with_free_ports_keeps_those_of_the_first() -> None:
    assert assign(remembered={"KAFKA_PORT": 20_500, "REDIS_PORT": 20_501}, free=True) == {
        "KAFKA_PORT": 20_500,
        "REDIS_PORT": 20_501,
    }


def test_a_remembered_port_that_was_taken_meanwhile_is_replaced_when_free_ones_are_asked_for() -> None:
    found = assign(remembered={"KAFKA_PORT": 21_000, "REDIS_PORT": 20_501}, free=True)
    assert found["KAFKA_PORT"] != 21_000
    assert found["REDIS_PORT"] == 20_501


@pytest.mark.parametrize("wrong", ["abc", "0", "65536", "-1", "12.5"])
def test_a_variable_that_is_no_port_is_refused_with_its_value(wrong: str) -> None:
    with pytest.raises(StackError, match=r"KAFKA_PORT='.*' is not a port"):
        assign(environment={"KAFKA_PORT": wrong})


def test_two_variables_with_one_port_are_refused_by_name() -> None:
    with pytest.raises(StackError, match="KAFKA_PORT and REDIS_PORT are both 6379"):
        assign(environment={"KAFKA_PORT": "6379"})
