"""Queries for Elasticsearch, and its hits as records again."""

from decimal import Decimal
from typing import Any

import pytest

from api.answers import encode
from api.queries.records import LISTED_CHARACTERS
from api.search.service import NotAnswered, dataset_of, match_of, search_body
from runtime.settings import Settings
from schemas.registry import all_datasets, dataset_named

CUSTOMERS = dataset_named("customers")


def test_the_query_asks_the_folded_text_and_the_key() -> None:
    body = search_body([CUSTOMERS], " Müller ", 20, 10)
    assert (body["from"], body["size"], body["track_total_hits"]) == (20, 10, True)
    clauses = body["query"]["bool"]["should"]
    assert clauses[0]["term"]["customer_id"]["value"] == "Müller"
    assert {clause["match"]["search_text"]["query"] for clause in clauses if "match" in clause} == {" muller "}
    assert all("wildcard" not in clause and "query_string" not in clause for clause in clauses)


def test_a_hit_becomes_the_record_with_decimals_as_exact_numbers() -> None:
    row = match_of(CUSTOMERS, {"customer_id": "C1", "account_balance": "1234567890123.10", "updated_at": None}).row
    assert row["account_balance"] == Decimal("1234567890123.10")
    assert b'"account_balance":1234567890123.10' in encode(row)
    assert list(row) == [*(field.name for field in CUSTOMERS.fields), "updated_at"]


@pytest.mark.parametrize("namespace", ["", "t-1"])
def test_an_index_leads_back_to_its_dataset(namespace: str) -> None:
    settings = Settings(headrace_namespace=namespace)
    name = settings.named("customers")
    for index in (name, f"{name}-000001", f"{name}-v1"):
        assert dataset_of(settings, all_datasets(), index) is CUSTOMERS
    with pytest.raises(NotAnswered):
        dataset_of(settings, all_datasets(), f"{name}archive")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"first_name": "Ada"},
        {"customer_id": None},
        {"customer_id": 17},
        {"customer_id": ["C1", "C2"]},
        {"customer_id": "C1", "first_name": True},
        {"customer_id": "C1", "address": 5},
        {"customer_id": "C1", "address": {"street": "x"}},
        {"customer_id": "C1", "account_balance": "much"},
        {"customer_id": "C1", "account_balance": [1, 2]},
        {"customer_id": "C1", "account_balance": True},
    ],
)
def test_a_document_of_a_stranger_is_not_taken_for_a_record(document: dict[str, Any]) -> None:
    with pytest.raises(NotAnswered):
        match_of(CUSTOMERS, document)


def test_a_long_text_of_a_hit_is_cut() -> None:
    row = match_of(CUSTOMERS, {"customer_id": "C1", "address": "x" * 30_000, "first_name": "y" * 100}).row
    assert (row["address"], row["first_name"]) == ("x" * LISTED_CHARACTERS + "…", "y" * 100)


def test_a_key_is_asked_for_as_each_dataset_keeps_it() -> None:
    clauses = search_body([CUSTOMERS, dataset_named("users")], " Jose\u0301@Example.org", 0, 10)["query"]["bool"][
        "should"
    ]
    asked = {name: term["value"] for clause in clauses if "term" in clause for name, term in clause["term"].items()}
    assert asked == {"customer_id": "Jos\u00e9@Example.org"}  # no e-mail address has an accent
    clauses = search_body([dataset_named("users")], "ADA@example.org", 0, 10)["query"]["bool"]["should"]
    assert clauses[0]["term"]["email.exact"]["value"] == "ada@example.org"
