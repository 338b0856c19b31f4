from typing import Any

import httpx
import pytest
from starlette.requests import Request

from dashboard.api_client import Api
from dashboard.live import Answer, Live
from dashboard.pages.data import Place, browsed_path, exported_path
from dashboard.shell import Page
from tests.unit.dashboard.a_page import a_page, said

CUSTOMERS = {"name": "customers", "url": "/datasets/customers"}
RECORDS = {"name": "records", "url": "/datasets/records"}


def test_records_of_a_source_are_browsed_and_exported_with_their_source() -> None:
    wanted = {"dataset": "records", "source": "a&b"}
    assert browsed_path(RECORDS, wanted, Place("", "2"), 25) == "/data?source=a%26b&page=2&page_size=25"
    assert exported_path(wanted) == "/export/records-of?source=a%26b"


@pytest.mark.parametrize("wanted", [{"dataset": "customers"}, {"dataset": "customers", "source": "shop"}])
def test_a_dataset_that_does_not_know_its_sources_is_browsed_whole(wanted: dict[str, str]) -> None:
    assert browsed_path(CUSTOMERS, wanted, Place("x=", "1"), 25) == "/datasets/customers?limit=25&cursor=x%3D"
    assert exported_path(wanted) == "/export/data-customers"
    assert exported_path({}) is None


async def test_a_part_that_comes_later_is_filled_in_then() -> None:
    with a_page() as client:
        live = Live(Api("http://api", httpx.MockTransport(lambda _: httpx.Response(503))))
        page = Page(live, Request({"type": "http", "headers": [], "query_string": b""}))
        seen: list[Any] = []
        page.show_later("/x", seen.append)
        assert said(client.content) == "Loading"
        [(_, _, update)] = page._watching
        update(Answer({"word": "yes"}, None, 0))
        assert seen == [{"word": "yes"}]
        assert said(client.content) == ""
