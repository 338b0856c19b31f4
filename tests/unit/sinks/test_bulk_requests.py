"""Bulk requests of the Elasticsearch sink, without a server."""

import json

import msgspec
import pytest

from schemas.events import ChangeEvent, Origin
from schemas.registry import dataset_named
from sinks.elasticsearch import MAX_BULK_BYTES, BulkItem, _requests, bulk_lines

CUSTOMERS = dataset_named("customers")
ORIGIN = Origin("customers.raw", 0, 7, 1_700_000_000_000)


def stored(data: bytes, version: int = 3) -> ChangeEvent:
    return ChangeEvent("C1", "stored", version, ORIGIN, msgspec.Raw(data))


def lines_of(change: ChangeEvent) -> list[dict[str, object]]:
    lines = bulk_lines("customers", CUSTOMERS, change)
    assert lines.endswith(b"\n")
    return [json.loads(line) for line in lines.splitlines()]


def test_a_document_carries_its_version_and_its_folded_text() -> None:
    action, document = lines_of(stored('{"customer_id":"C1","first_name":"Zoë","last_name":"Müller"}'.encode()))
    assert action == {"index": {"_index": "customers", "_id": "C1", "version": 3, "version_type": "external"}}
    assert document == {"customer_id": "C1", "first_name": "Zoë", "last_name": "Müller", "search_text": "zoe muller"}


def test_a_row_that_is_written_over_several_lines_is_brought_onto_one() -> None:
    action, document = lines_of(stored(b'{\n "customer_id": "C1",\n "first_name": "Ada"\n}\n'))
    assert action["index"]
    assert document["first_name"] == "Ada"


def test_a_deletion_is_one_line_with_a_version() -> None:
    [action] = lines_of(ChangeEvent("C1", "deleted", 9, ORIGIN))
    assert action == {"delete": {"_index": "customers", "_id": "C1", "version": 9, "version_type": "external"}}


@pytest.mark.parametrize("sizes", [[10], [MAX_BULK_BYTES, 1], [MAX_BULK_BYTES // 2] * 5, [MAX_BULK_BYTES * 2, 1, 1]])
def test_requests_stay_below_the_limit_unless_one_document_alone_is_above_it(sizes: list[int]) -> None:
    items = [BulkItem(CUSTOMERS, stored(b"{}"), b"x" * size) for size in sizes]
    requests = list(_requests(items))
    assert [item for request in requests for item in request] == items
    for request in requests:
        assert len(request) == 1 or sum(len(item.lines) for item in request) <= MAX_BULK_BYTES
