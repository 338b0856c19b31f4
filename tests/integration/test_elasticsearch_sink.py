"""The Elasticsearch sink on a real node."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer

from runtime.kafka.clients import consumer_config
from runtime.settings import Settings
from schemas.events import FailedRecord
from schemas.registry import dataset_named
from sinks.elasticsearch import ElasticsearchSink
from stores.search_index import alias_name, ensure_indices, index_mapping, index_name
from stores.search_server import SearchServer
from tests.integration.sink_events import change, publish, running
from tests.search_index import drop_indices, make_index, mapping_of, search_server, settings_of
from tests.waiting import eventually_async

CUSTOMERS = dataset_named("customers")


@pytest.fixture
async def server(pipeline_settings: Settings) -> AsyncIterator[SearchServer]:
    async with search_server(pipeline_settings) as server:
        yield server
        await drop_indices(server, pipeline_settings)


def sink(settings: Settings) -> ElasticsearchSink:
    assert settings.elasticsearch_url
    return ElasticsearchSink(settings)


async def document(server: SearchServer, settings: Settings, key: str) -> dict[str, Any]:
    found: dict[str, Any] = await server.ask("GET", f"/{alias_name(CUSTOMERS, settings)}/_doc/{key}")
    return found


async def test_indices_and_aliases_are_made_once_however_often_asked(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    await ensure_indices(server, pipeline_settings)
    await ensure_indices(server, pipeline_settings)
    alias, index = alias_name(CUSTOMERS, pipeline_settings), index_name(CUSTOMERS, pipeline_settings)
    assert list(await server.ask("GET", f"/_alias/{alias}")) == [index]
    settings = await settings_of(server, index)
    assert (settings["number_of_replicas"], settings["gc_deletes"]) == ("0", "168h")


async def test_changes_are_found_by_folded_prefix_and_an_older_version_changes_nothing(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    publish(pipeline_settings, "customers.changed", change("C1", 5, first_name="Newer"), change("C2", 6))
    async with running(sink(pipeline_settings), pipeline_settings):
        await eventually_async(lambda: document(server, pipeline_settings, "C2"), what="C2 is indexed")
        publish(pipeline_settings, "customers.changed", change("C1", 4, first_name="Older"), change("C3", 7))
        await eventually_async(lambda: document(server, pipeline_settings, "C3"), what="C3 is indexed")
    found = await document(server, pipeline_settings, "C1")
    assert (found["_source"]["first_name"], found["_version"]) == ("Newer", 5)
    alias = alias_name(CUSTOMERS, pipeline_settings)
    await server.ask("POST", f"/{alias}/_refresh")
    hits = await server.ask("POST", f"/{alias}/_search", {"query": {"prefix": {"search_text": "mun"}}})
    assert {hit["_id"] for hit in hits["hits"]["hits"]} == {"C1", "C2", "C3"}


async def test_a_sink_that_starts_while_its_index_is_read_only_waits(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    await ensure_indices(server, pipeline_settings)
    index = index_name(CUSTOMERS, pipeline_settings)
    await server.ask("PUT", f"/{index}/_settings", {"index.blocks.read_only": True})
    publish(pipeline_settings, "customers.changed", change("C1", 1))
    async with running(sink(pipeline_settings), pipeline_settings) as runner:

        async def is_waiting() -> bool:
            return bool(runner.health()["state"] == "waiting_for_store")

        await eventually_async(is_waiting, what="the sink waits for its index")
        await server.ask("PUT", f"/{index}/_settings", {"index.blocks.read_only": None})
        await eventually_async(lambda: document(server, pipeline_settings, "C1"), what="C1 is indexed")


async def test_a_document_that_is_refused_goes_to_failures_and_its_neighbours_are_indexed(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    bad = change("BAD", 2, date_of_birth="not a date")
    publish(pipeline_settings, "customers.changed", change("C1", 1), bad, change("C3", 3))
    async with running(sink(pipeline_settings), pipeline_settings):
        await eventually_async(lambda: document(server, pipeline_settings, "C3"), what="C3 is indexed")
    consumer = Consumer(consumer_config(pipeline_settings, "failures-reader"))
    consumer.subscribe([pipeline_settings.named("failures")])
    try:
        [message] = consumer.consume(1, 20)
        failed = msgspec.json.decode(message.value() or b"", type=FailedRecord)
    finally:
        consumer.close()
    assert (failed.key, failed.stage, failed.reason) == ("BAD", "elasticsearch", "elasticsearch_refused")
    assert "date_of_birth" in failed.message


async def test_an_event_whose_row_is_no_object_is_passed_over(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    rowless = [("NONE", b'{"key":"NONE","op":"stored","version":1}')]
    rowless += [("LIST", b'{"key":"LIST","op":"stored","version":2,"data":[1]}')]
    publish(pipeline_settings, "customers.changed", *rowless, change("C3", 3))
    async with running(sink(pipeline_settings), pipeline_settings):
        await eventually_async(lambda: document(server, pipeline_settings, "C3"), what="C3 is indexed")
    answer = await server.ask(
        "POST", f"/{alias_name(CUSTOMERS, pipeline_settings)}/_mget", {"ids": ["NONE", "LIST", "C3"]}
    )
    assert [document["found"] for document in answer["docs"]] == [False, False, True]


async def test_an_index_of_another_form_pauses_its_dataset_alone_until_the_index_is_made_again(
    server: SearchServer, pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.runner.SET_UP_AGAIN_SECONDS", 0.5)
    index = index_name(CUSTOMERS, pipeline_settings)
    await ensure_indices(server, pipeline_settings)
    await server.ask("DELETE", f"/{index}")
    # `phone` is not there, `address` was not searched, and a date cannot become a number.
    forms = {"date_of_birth": {"type": "long"}, "address": {"type": "keyword"}, "email": {"type": "text"}}
    await make_index(server, index, {**forms, "phone": {"type": "keyword"}})
    report = await ensure_indices(server, pipeline_settings)
    assert list(report.misfits) == ["customers"]
    assert "customers.date_of_birth: declared date, the index has long; delete the index" in report.misfits["customers"]
    [remark] = report.remarks
    assert remark.startswith("customers.address: declared text, the index has keyword")

    publish(pipeline_settings, "customers.changed", change("C1", 1, date_of_birth="2024-01-31"))
    publish(pipeline_settings, "orders.changed", ("O1", change("O1", 1)[1]))
    async with running(sink(pipeline_settings), pipeline_settings) as runner:
        orders = alias_name(dataset_named("orders"), pipeline_settings)
        await eventually_async(lambda: server.ask("GET", f"/{orders}/_doc/O1"), what="orders go on")
        assert list(runner.health()["paused"]) == [pipeline_settings.named("customers.changed")]
        await server.ask("DELETE", f"/{index}")
        await eventually_async(lambda: document(server, pipeline_settings, "C1"), what="and so do customers now")
        assert "paused" not in runner.health()


async def test_an_index_of_an_older_form_is_brought_into_the_declared_one_in_place(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    """As it was before telephone numbers and names of sources had a limit: longer ones are stored, and not searched."""
    records = dataset_named("records")
    for dataset, names in ((CUSTOMERS, ["phone"]), (records, ["source", "source_name"])):
        properties = index_mapping(dataset)["properties"] | {name: {"type": "keyword"} for name in names}
        await make_index(server, index_name(dataset, pipeline_settings), properties)
    report = await ensure_indices(server, pipeline_settings)
    now = "has it in its declared form now"
    assert [line for line in report.changes if now in line] == [
        f"customers.phone: the index {index_name(CUSTOMERS, pipeline_settings)} {now}",
        f"records.source: the index {index_name(records, pipeline_settings)} {now}",
        f"records.source_name: the index {index_name(records, pipeline_settings)} {now}",
    ]
    assert not report.misfits
    assert not report.remarks
    for dataset in (CUSTOMERS, records):
        index = index_name(dataset, pipeline_settings)
        found = await mapping_of(server, index)
        assert found == index_mapping(dataset)["properties"]
    assert (await ensure_indices(server, pipeline_settings)).changes == []
    mine = index_mapping(CUSTOMERS)["properties"]["phone"] | {"fields": {"mine": {"type": "text"}}}
    await server.ask("PUT", f"/{index_name(CUSTOMERS, pipeline_settings)}/_mapping", {"properties": {"phone": mine}})
    assert (await ensure_indices(server, pipeline_settings)).changes == [], (
        "what an operator added is no change of ours"
    )


async def test_an_index_that_earlier_releases_made_is_taken_as_it_is_but_for_its_refresh_interval(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    """All searched fields could be searched by themselves then, and an index was refreshed though nobody searched."""
    index, properties = index_name(CUSTOMERS, pipeline_settings), index_mapping(CUSTOMERS)["properties"]
    assert properties["address"] == {"type": "text", "index": False}
    searched = {"type": "text", "fields": {"exact": {"type": "keyword", "ignore_above": 1024}}}
    earlier = properties | dict.fromkeys(CUSTOMERS.search_fields, searched)
    await make_index(server, index, earlier, settings={"refresh_interval": "1s"})
    report = await ensure_indices(server, pipeline_settings)
    assert (report.misfits, report.remarks) == ({}, [])
    assert [line for line in report.changes if line.startswith("customers: ")] == [
        f"customers: the index {index} is refreshed by Elasticsearch's default now"
    ]
    assert "refresh_interval" not in await settings_of(server, index)
    assert await mapping_of(server, index) == earlier
    assert (await ensure_indices(server, pipeline_settings)).changes == []
    await server.ask("PUT", f"/{index}/_settings", {"refresh_interval": "30s"})
    assert (await ensure_indices(server, pipeline_settings)).changes == [], "an operator's own is no change of ours"


async def test_a_form_that_elasticsearch_does_not_change_is_told_with_what_to_do(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    index = index_name(CUSTOMERS, pipeline_settings)
    other = {"date_of_birth": {"type": "date", "format": "epoch_millis"}, "phone": {"type": "keyword", "index": False}}
    await make_index(server, index, other)
    report = await ensure_indices(server, pipeline_settings)
    assert report.misfits == {
        "customers": 'customers.date_of_birth: declared {"type": "date", "format": "yyyy-MM-dd"}, the index has '
        f'{{"type": "date", "format": "epoch_millis"}}; delete the index {index}, run `headrace setup`, then '
        "`headrace audit --deep --repair`"
    }
    [remark] = report.remarks
    assert remark.startswith(
        'customers.phone: declared {"type": "keyword", "ignore_above": 1024}, the index has {"type'
    )


async def test_a_new_field_is_added_to_the_index_that_is_there(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    index = index_name(CUSTOMERS, pipeline_settings)
    await make_index(server, index, {"phone": {"type": "keyword"}})
    report = await ensure_indices(server, pipeline_settings)
    assert any("has account_balance, address" in line for line in report.changes)
    found = await mapping_of(server, index)
    assert found["account_balance"] == {"type": "double"}
    assert (await ensure_indices(server, pipeline_settings)).changes == []


IN_THE_WAY: dict[str, tuple[str, dict[str, Any]]] = {
    "an index named as the alias": ("{0}", {}),
    "an index that the alias writes to": ("{0}-other", {"aliases": {"{0}": {"is_write_index": True}}}),
    "an alias named as the index": ("{0}-other", {"aliases": {"{0}-v1": {}}}),
    "a template for the same indices": (
        "_index_template/{0}-other",
        {"index_patterns": ["{0}-v*"], "priority": 500, "template": {}},
    ),
}


@pytest.mark.parametrize(("place", "body"), IN_THE_WAY.values(), ids=IN_THE_WAY)
async def test_what_is_in_the_way_of_an_index_holds_up_its_dataset_alone(
    server: SearchServer, pipeline_settings: Settings, place: str, body: dict[str, Any]
) -> None:
    alias = alias_name(CUSTOMERS, pipeline_settings)
    place = place.replace("{0}", alias)
    await server.ask("PUT", f"/{place}", msgspec.json.decode(msgspec.json.encode(body).replace(b"{0}", alias.encode())))
    try:
        report = await ensure_indices(server, pipeline_settings)
        assert list(report.misfits) == ["customers"]
        line = report.misfits["customers"]
        assert line.startswith("customers: Elasticsearch refuses its template, the index ")
        assert line.endswith("delete or rename what is in the way, then run `headrace setup`")
        orders = dataset_named("orders")
        found = await server.ask("GET", f"/_alias/{alias_name(orders, pipeline_settings)}")
        assert list(found) == [index_name(orders, pipeline_settings)]
    finally:
        await server.ask("DELETE", f"/{place}")
    assert not (await ensure_indices(server, pipeline_settings)).misfits
