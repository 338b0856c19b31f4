"""Keys that are not unique are noticed, however many records there are, in bounded memory."""

import pytest

from producers.run_checks import MOST_KEPT, DistinctKeys


def counted(*keys: str | None) -> DistinctKeys:
    found = DistinctKeys()
    for key in keys:
        found.add(key)
    return found


def test_few_keys_among_many_records_are_counted_exactly() -> None:
    found = counted(*(f"weather:{number % 4}" for number in range(12_360)))
    assert (found.distinct, found.records, found.repeat) == (4, 12_360, True)


def test_a_file_in_which_some_rows_repeat_a_key_is_not_suspected() -> None:
    found = counted(*(f"orders:{number % 4_680}" for number in range(5_200)))
    assert (found.distinct, found.repeat) == (4_680, False)


def test_a_few_versions_of_one_record_are_not_suspected() -> None:
    assert not counted(*["crm:ADA"] * 10).repeat


def test_records_without_a_key_do_not_count_as_repeats() -> None:
    assert counted(*[None] * 100).records == 0


@pytest.mark.parametrize("number", [MOST_KEPT - 1, 5 * MOST_KEPT])
def test_very_many_keys_are_counted_approximately_in_bounded_memory(number: int) -> None:
    found = counted(*(f"key {n}" for n in range(number)))
    assert found.distinct == pytest.approx(number, rel=0.05)
    assert len(found._kept) <= MOST_KEPT
    assert not found.repeat
