"""What is derived from a dataset's declaration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dataset import Dataset
from schemas.errors import InvalidField
from schemas.fields import FromSource
from schemas.registry import UnknownDataset, all_datasets, dataset_named, ingested_datasets
from schemas.topics import all_topics
from tests.unit.schemas.json_values import values


@pytest.mark.parametrize("dataset", all_datasets(), ids=lambda dataset: dataset.name)
@given(data=st.data())
def test_a_key_can_be_taken_apart_again(dataset: Dataset, data: st.DataObject) -> None:
    record = {}
    for name in dataset.key:
        field = next(field for field in dataset.fields if field.name == name)
        try:
            record[name] = field.type.normalize(data.draw(values))
        except InvalidField:
            record[name] = "x"
    texts = {name: str(value) for name, value in record.items()}
    assert dataset.key_fields(dataset.key_text(record)) == texts


def test_a_key_with_too_few_parts_is_no_key() -> None:
    with pytest.raises(ValueError, match="source_name:source_id"):
        dataset_named("records").key_fields("titanic")


@pytest.mark.parametrize("dataset", all_datasets(), ids=lambda dataset: dataset.name)
def test_every_dataset_of_ours_names_fields_that_it_has(dataset: Dataset) -> None:
    names = [field.name for field in dataset.fields]
    assert names == list(dataset.model.model_fields)
    assert set(dataset.key) | set(dataset.unique) | set(dataset.search_fields) <= set(names)
    assert all(field.required for field in dataset.fields if field.name in dataset.key)


@pytest.mark.parametrize("dataset", all_datasets(), ids=lambda dataset: dataset.name)
def test_only_the_last_part_of_a_key_may_contain_the_separator(dataset: Dataset) -> None:
    types = {field.name: field.type for field in dataset.fields}
    assert all(isinstance(types[name], FromSource) for name in dataset.key[:-1])


def test_topics_are_derived_from_the_name() -> None:
    customers = dataset_named("customers")
    assert (customers.raw_topic, customers.clean_topic, customers.changed_topic) == (
        "customers.raw",
        "customers.clean",
        "customers.changed",
    )
    assert {customers.raw_topic, customers.clean_topic, "failures"} <= {topic.name for topic in all_topics()}


def test_a_dataset_that_the_api_writes_has_no_topic_but_the_one_of_changes() -> None:
    users = dataset_named("users")
    assert users not in ingested_datasets()
    [topic] = [topic for topic in all_topics() if topic.name.startswith("users.")]
    assert (topic.name, topic.written_by) == (users.changed_topic, "relay")
    assert topic.read_by == next(t.read_by for t in all_topics() if t.name == "customers.changed")


def test_the_search_text_is_folded_and_leaves_out_absent_fields() -> None:
    row = {"first_name": "José", "last_name": "MUÑOZ", "email": "j@example.org", "address": None}
    assert dataset_named("customers").search_text(row) == "jose munoz j@example.org"


def test_required_fields_are_those_without_none() -> None:
    required = {field.name for field in dataset_named("customers").fields if field.required}
    assert required == {"customer_id", "first_name", "last_name", "email"}


def test_a_default_is_declared_as_in_pydantic_and_is_kept_in_normal_form() -> None:
    defaults = {field.name: field.default for field in dataset_named("orders").fields}
    assert defaults == {"quantity": 1} | dict.fromkeys(defaults.keys() - {"quantity"})
    for dataset in all_datasets():
        for field in dataset.fields:
            assert field.default is None or field.type.normalize(field.default) is not None


def test_an_unknown_dataset_is_named_with_those_that_exist() -> None:
    with pytest.raises(UnknownDataset, match=r"'nope'.*customers, orders, records"):
        dataset_named("nope")


@pytest.mark.parametrize(
    ("dataset", "sent", "kept"),
    [
        ("customers", " Jose\u0301  1 ", "Jos\u00e9 1"),
        ("records", "shop :  a:\u00a0b", "shop:a: b"),
        ("users", " Ada@Example.ORG", "ada@example.org"),
    ],
)
def test_a_key_as_it_was_sent_becomes_the_key_of_its_stored_record(dataset: str, sent: str, kept: str) -> None:
    assert dataset_named(dataset).normal_key(sent) == kept
    assert dataset_named(dataset).normal_key(kept) == kept


@pytest.mark.parametrize(
    ("dataset", "sent"),
    [("customers", " "), ("customers", "a\x00"), ("records", "titanic"), ("records", ":7")],
)
def test_a_text_that_cannot_be_a_key_is_refused(dataset: str, sent: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        dataset_named(dataset).normal_key(sent)
