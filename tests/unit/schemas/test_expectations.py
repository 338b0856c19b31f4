from schemas.expectations import expectation
from schemas.registry import all_datasets, dataset_named


def test_people_are_told_what_a_field_takes() -> None:
    customers = dataset_named("customers")
    said = {field.name: expectation(field, customers) for field in customers.fields}
    assert said["email"] == "e-mail address, at most 255 characters; required; no two records share it"
    assert said["customer_id"] == "text, at most 50 characters; required; the key"
    assert said["date_of_birth"] == "date, best as 2024-01-31; may be absent"
    orders = dataset_named("orders")
    assert [expectation(one, orders) for one in orders.fields if one.name == "quantity"] == [
        "whole number from 1 to 2,147,483,647; 1 if absent"
    ]


def test_every_field_of_every_dataset_is_described() -> None:
    assert all(expectation(field, dataset) for dataset in all_datasets() for field in dataset.fields)
