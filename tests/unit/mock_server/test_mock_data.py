"""The committed data is what the generator writes, and every customer is one that the pipeline accepts."""

import json
import re
import uuid
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from mock_server.generate import build_customers, generate
from mock_server.records import CUSTOMERS_FILE, POSTS_FILE, SAMPLE_CUSTOMERS_FILE, DataFileError, read_records
from tests.time_zone import time_zone


@pytest.fixture(scope="module")
def customers() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(CUSTOMERS_FILE.read_bytes())
    return loaded


def test_generating_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    for written, committed in zip(generate(tmp_path), (CUSTOMERS_FILE, POSTS_FILE), strict=True):
        assert written.read_bytes() == committed.read_bytes(), f"{committed.name}: python -m mock_server.generate"


def test_the_samples_come_first_and_the_rest_have_name_based_ids(customers: list[dict[str, Any]]) -> None:
    assert len(customers) == 10_000
    assert customers[:25] == json.loads(SAMPLE_CUSTOMERS_FILE.read_bytes())
    assert [customer["customer_id"] for customer in customers[:25]] == [f"CUST{n:03}" for n in range(1, 26)]
    assert {uuid.UUID(customer["customer_id"]).version for customer in customers[25:]} == {5}


def test_generating_fewer_customers_gives_a_prefix_of_generating_more(customers: list[dict[str, Any]]) -> None:
    samples = customers[:25]
    assert build_customers(samples, 60) == customers[:60]
    assert build_customers(samples, 3) == customers[:3]


@pytest.mark.parametrize("zone", ["America/St_Johns", "Pacific/Kiritimati"])
def test_generating_is_the_same_in_every_time_zone(customers: list[dict[str, Any]], zone: str) -> None:
    with time_zone(zone):
        assert build_customers(customers[:25], 200) == customers[:200]


def test_ids_and_emails_are_unique_regardless_of_case(customers: list[dict[str, Any]]) -> None:
    assert len({customer["customer_id"].lower() for customer in customers}) == len(customers)
    assert len({customer["email"].lower() for customer in customers}) == len(customers)


def test_every_customer_has_every_field_in_bounds(customers: list[dict[str, Any]]) -> None:
    fields = list(customers[0])
    for customer in customers:
        assert list(customer) == fields
        assert all(customer[name].strip() == customer[name] != "" for name in ("first_name", "last_name", "address"))
        assert re.fullmatch(r"[A-Za-z0-9.+-]+@[A-Za-z]+\.(com|net|org)", customer["email"])
        assert date(1930, 1, 1) < date.fromisoformat(customer["date_of_birth"]) < date(2008, 1, 1)
        assert datetime.fromisoformat(customer["created_at"]).utcoffset() is not None
        assert round(customer["account_balance"], 2) == customer["account_balance"]


def test_every_phone_is_international_and_fits_its_column(customers: list[dict[str, Any]]) -> None:
    for customer in customers:
        bare = re.sub(r"[ ()-]", "", customer["phone"])
        assert re.fullmatch(r"(\+|00)[1-9][0-9]{6,14}", bare), customer
        assert len(customer["phone"]) <= 20


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[{]"])
def test_a_data_file_that_cannot_be_read_names_itself_and_the_way_out(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "customers.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataFileError, match=r"customers\.json.*python -m mock_server\.generate"):
        read_records(path)
