"""Words of tokens and the scopes that they stand for, and times to come."""

import datetime

import pytest

from runtime.moments import moment, moment_to_come
from runtime.scopes import Scope, scopes_by_word

NOW = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)


def test_words_stand_for_the_scopes_that_the_setting_says() -> None:
    assert scopes_by_word("viewer=read, a=b=read+write") == {
        "viewer": {Scope.READ},
        "a=b": {Scope.READ, Scope.WRITE},
    }


def test_without_a_setting_only_words_that_mean_us_count() -> None:
    assert scopes_by_word("") == {f"headrace:{scope}": {scope} for scope in Scope}
    assert "read" not in scopes_by_word(" , ")


@pytest.mark.parametrize("wrong", ["viewer", "viewer=", "=read", "viewer=all", "viewer=read+", "viewer=READ"])
def test_a_setting_that_says_something_else_is_refused_with_the_form(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected WORD=SCOPE"):
        scopes_by_word(wrong)


def test_a_length_is_before_now_or_after_it() -> None:
    assert moment("2h", NOW) == NOW - datetime.timedelta(hours=2)
    assert moment_to_come("90d", NOW) == NOW + datetime.timedelta(days=90)
    assert moment_to_come("0s", NOW, or_now=True) == NOW
    assert moment_to_come("2027-01-01T00:00Z", NOW).year == 2027


@pytest.mark.parametrize("wrong", ["2026-01-01", "soon", "999999999d", "-1d"])
def test_what_is_over_or_no_time_is_no_time_to_come(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        moment_to_come(wrong, NOW)


def test_what_is_over_at_once_is_no_time_to_come() -> None:
    with pytest.raises(ValueError, match="'0d' is over"):
        moment_to_come("0d", NOW)
