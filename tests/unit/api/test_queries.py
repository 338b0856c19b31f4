"""The SQL of searches, and the arithmetic of paging over several tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from api.queries.orders import wanted_orders
from api.queries.records import containing, served_columns
from api.queries.text_search import matches, windows, words_of
from schemas.registry import dataset_named

RECORDS = dataset_named("records")
CUSTOMERS = dataset_named("customers")
DIALECT = postgresql.asyncpg.dialect()  # type: ignore[no-untyped-call]


def test_a_search_is_folded_and_its_wildcards_are_escaped() -> None:
    compiled = containing(RECORDS, "100% Caf\u00e9_O'Brien/").compile(dialect=DIALECT)
    assert list(compiled.params.values()) == ["100/% cafe/_o'brien//"]
    assert "ESCAPE '/'" in str(compiled)


def test_a_fallback_search_wants_every_word_or_the_key() -> None:
    compiled = matches(CUSTOMERS, "Müller 50%").compile(dialect=DIALECT)
    assert list(compiled.params.values()) == ["muller", "50", "müller 50%"]
    assert " AND " in str(compiled)
    assert "lower(customers.customer_id)" in str(compiled)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ('"Smith, John"', ["smith", "john"]),
        ("-a (b) c* d~ e:f", ["a", "b", "c", "d", "e", "f"]),
        ("owen-harris ada@example.com", ["owen", "harris", "ada", "example", "com"]),
        ("\u202eMüller\u200b\ufe0f", ["muller"]),
        ("हिन्दी ไทยนี้", ["ह\u093fन\u0926\u0940", "ไทยน\u0e35"]),
        ("%_ . ... \u0301 😀", []),
    ],
)
def test_words_are_what_an_index_knows_of_a_query(query: str, words: list[str]) -> None:
    assert words_of(query) == words


def test_a_search_for_nothing_that_is_kept_finds_nothing() -> None:
    assert str(containing(RECORDS, "\u0301").compile(dialect=DIALECT)) == "false"
    assert "search_text" not in str(matches(RECORDS, "\u0301").compile(dialect=DIALECT))


def test_orders_are_asked_for_by_the_key_of_their_customer_however_it_was_copied() -> None:
    [condition] = wanted_orders(customer_id="\ufeffCUST\u200b001")
    assert list(condition.compile(dialect=DIALECT).params.values()) == ["CUST001"]


def test_answers_carry_the_fields_and_no_bookkeeping() -> None:
    assert [column.name for column in served_columns(RECORDS)] == [
        *("id", "source", "source_name", "source_id", "name", "value", "description", "created_at", "updated_at")
    ]


@given(st.lists(st.integers(0, 7), max_size=4), st.integers(0, 30), st.integers(1, 10))
def test_a_window_over_several_lists_is_a_window_of_their_concatenation(
    counts: list[int], offset: int, limit: int
) -> None:
    everything = [(i, n) for i, size in enumerate(counts) for n in range(size)]
    taken = [
        (i, n) for i, (start, size) in enumerate(windows(counts, offset, limit)) for n in range(start, start + size)
    ]
    assert taken == everything[offset : offset + limit]


def test_a_fallback_search_finds_a_key_in_the_form_in_which_it_was_sent() -> None:
    compiled = matches(CUSTOMERS, "  Jose\u0301  1").compile(dialect=DIALECT)
    assert list(compiled.params.values())[-1] == "jos\u00e9 1"
