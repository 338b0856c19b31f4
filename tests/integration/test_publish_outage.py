"""Kafka goes away in the middle of a run."""

import pytest

from producers.delivery import Progress
from producers.publish import publish
from runtime.errors import DeliveryFailed
from runtime.settings import Settings
from tests.integration.publish_servers import Answer, Request, http_server
from tests.integration.test_publish_api import api, ids, pages
from tests.servers.contract import Servers
from tests.waiting import eventually

PAGES = 6
STOPS_AT = 3


async def test_a_run_waits_for_kafka_as_long_as_it_is_told_and_then_says_what_was_not_confirmed(
    pipeline_settings: Settings, servers: Servers
) -> None:
    settings = pipeline_settings.model_copy(update={"publish_timeout_seconds": 3})
    contents = pages(PAGES)
    asked = 0
    seen: list[Progress] = []

    def script(request: Request) -> Answer:
        nonlocal asked
        asked += 1
        if asked == STOPS_AT:
            eventually(lambda: ids(settings), what="the first page has arrived", within=10)
            servers.stop("kafka")
        return Answer(200, contents[asked - 1])

    try:
        with (
            http_server(script) as url,
            pytest.raises(DeliveryFailed, match=r"no answer within 3 s, see PUBLISH_TIMEOUT_SECONDS.*publish again"),
        ):
            await publish(api(url, settings, concurrency=1), settings, progress=seen.append)
    finally:
        servers.start("kafka")
    last = seen[-1]
    assert last.unconfirmed > 0
    assert last.confirmed + last.unconfirmed == last.sent
    # For a moment after its restart the broker refuses fetches.
    arrived = eventually(lambda: ids(settings), what="what has arrived can be read")
    assert len(set(arrived)) == len(arrived)
    assert len(arrived) >= last.confirmed
