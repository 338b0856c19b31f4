"""Selections of failures, and the order of arrival that guards a replay."""

import datetime

import pytest

from schemas.events import Origin
from services.failures.listing import payload_text
from services.failures.selection import InvalidSelection, Selection


def test_a_selection_without_conditions_is_empty_and_holds_for_all() -> None:
    assert Selection().is_empty
    assert Selection().conditions() == []


def test_a_job_keeps_only_the_conditions_that_were_given() -> None:
    since = datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)
    assert Selection(reasons=("required",), since=since).as_json() == {
        "reasons": ["required"],
        "since": "2025-03-01T00:00:00Z",
    }


def test_an_unknown_state_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidSelection, match="parked"):
        Selection(states=("opened",))


def test_within_a_partition_the_offset_decides_and_across_partitions_the_time() -> None:
    assert Origin("t", 1, 5, 10).is_newer_than(Origin("t", 1, 4, 99))
    assert not Origin("t", 1, 5, 10).is_newer_than(Origin("t", 1, 5, 10))
    assert Origin("t", 2, 1, 11).is_newer_than(Origin("t", 1, 900, 10))
    assert not Origin("t", 2, 900, 9).is_newer_than(Origin("t", 1, 1, 10))


def test_bytes_that_are_no_text_are_shown_in_base64() -> None:
    assert payload_text("ä".encode()) == {"encoding": "utf-8", "content": "ä"}
    assert payload_text(b"\xff") == {"encoding": "base64", "content": "/w=="}


def test_failures_are_found_by_the_key_as_sent_and_by_its_normal_form() -> None:
    [condition] = Selection(keys=("Jose\u0301  1",)).conditions()
    assert set(condition.compile().params["key_1"]) == {"Jose\u0301  1", "Jos\u00e9 1"}
    _, condition = Selection(datasets=("users",), keys=("ADA@Example.org",)).conditions()
    assert set(condition.compile().params["key_1"]) == {"ADA@Example.org", "ada@example.org"}
