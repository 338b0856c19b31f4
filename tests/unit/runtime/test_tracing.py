"""Traces within one process: whose spans a batch has, what is handed on, and that off costs nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime import tracing
from runtime.kafka.confirmed import Outgoing
from runtime.settings import Settings
from runtime.tracing import (
    MOST_TRACES,
    Received,
    add_trace_id,
    follow,
    follower_name,
    note_outcome,
    span,
    trace_headers,
    with_traces,
    within,
)

PROJECT = Path(__file__).parents[3]


class Traced:
    """Traces that are made in this process, and kept."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = tracing._Tracing(self.exporter, "test", "0")

    def spans(self) -> dict[str, ReadableSpan]:
        self.tracing.flush()
        return {str(one.name): one for one in self.exporter.get_finished_spans()}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    made = Traced()
    monkeypatch.setattr(tracing, "_tracing", made.tracing)
    yield made
    made.tracing.close()


def parent(number: int, sampled: bool = True) -> bytes:
    return f"00-{number:032x}-{number:016x}-{sampled:02x}".encode()


def received(offset: int, *headers: tuple[str, bytes]) -> Received:
    return Received(("customers", b"%d" % offset), "ns.customers.clean", 1, offset, list(headers))


def test_off_no_record_is_looked_at_and_nothing_is_added() -> None:
    records = iter([received(0, ("traceparent", parent(1)))])
    assert follow("postgres", records) is None
    assert len(list(records)) == 1, "it was looked at"
    messages = [Outgoing("customers.changed", 0, b"a", b"{}")]
    with within(None), span("publish") as made:
        assert made is None
        assert with_traces(messages) is messages
        assert trace_headers() == []
    assert add_trace_id(None, "info", {"event": "x"}) == {"event": "x"}


def test_off_no_process_imports_the_sdk_nor_what_only_clients_of_stores_would() -> None:
    code = """
import sys
import api.app, api.main, commands.sink, commands.normalizer, commands.relay, commands.scheduler, commands.publish_runs
from runtime.settings import Settings
from runtime.tracing import start_tracing
start_tracing(Settings(), "normalizer")
start_tracing(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:1", otel_sdk_disabled=True), "normalizer")
api.app.create_app(Settings())
unwanted = ("opentelemetry.sdk", "opentelemetry.exporter", "numpy", "pyarrow")
loaded = [name for name in sys.modules if name.startswith(unwanted)]
assert not loaded, loaded
start_tracing(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:1"), "normalizer")
assert "opentelemetry.sdk.trace" in sys.modules
"""
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_each_trace_of_a_batch_has_a_span_linked_with_the_batchs(traced: Traced) -> None:
    followed = follow("postgres", [received(n, ("traceparent", parent(1 + n % 2))) for n in range(6)] + [received(9)])
    assert followed
    followed.outcome(("customers", b"0"), "inserted")
    followed.outcome(("customers", b"2"), "failed")
    followed.end()
    traced.tracing.flush()
    *records, batch = sorted(traced.exporter.get_finished_spans(), key=lambda one: str(one.name).endswith("batch"))
    assert [one.name for one in records] == ["postgres ns.customers.clean"] * 2
    assert {one.parent.span_id for one in records if one.parent} == {1, 2}
    assert {link.context.span_id for link in batch.links} == {one.context.span_id for one in records if one.context}
    assert batch.name == "postgres batch"
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 7
    for one in records:
        assert one.attributes is not None
        assert one.attributes["messaging.batch.message_count"] == 3
        assert one.attributes["messaging.destination.partition.id"] == "1"
        assert [link.context for link in one.links] == [batch.context]
    assert [one.attributes["headrace.outcome"] for one in records if one.attributes and len(one.attributes) > 7] == [
        ("failed", "inserted")
    ]


def test_a_batch_of_many_traces_has_a_bounded_number_of_spans_and_hands_the_others_on(traced: Traced) -> None:
    many = MOST_TRACES + 10
    followed = follow("redis", (received(n, ("traceparent", parent(n + 1))) for n in range(many)))
    assert followed
    handed_on = [followed.headers(("customers", b"%d" % n)) for n in range(many)]
    followed.end()
    traced.tracing.flush()
    spans = traced.exporter.get_finished_spans()
    assert len(spans) == MOST_TRACES + 1
    assert max(len(one.links) for one in spans) == MOST_TRACES
    trace_ids = [str(headers)[22:54] for headers in handed_on]
    assert trace_ids == [f"{n + 1:032x}" for n in range(many)]
    assert handed_on[MOST_TRACES:] == [[("traceparent", parent(n + 1))] for n in range(MOST_TRACES, many)]


def test_an_unsampled_trace_and_its_state_are_handed_on_without_a_span(traced: Traced) -> None:
    headers = [("other", b"x"), ("traceparent", parent(5, sampled=False)), ("tracestate", b"vendor=1")]
    followed = follow("landing", [received(0, *headers)])
    assert followed
    assert followed.headers(("customers", b"0")) == headers[1:]
    with within(followed):
        assert add_trace_id(None, "info", {}) == {}
    followed.end()
    assert traced.spans() == {}


@pytest.mark.parametrize("value", [b"", b"nonsense", b"00-0-0-01", b"\xff\xfe", parent(0)])
def test_what_is_no_traceparent_is_no_trace(traced: Traced, value: bytes) -> None:
    followed = follow("landing", [received(0, ("traceparent", value))])
    assert followed is None or not followed.headers(("customers", b"0"))
    assert traced.spans() == {}


def test_a_foreign_producers_own_trace_counts_before_the_one_of_the_run(traced: Traced) -> None:
    followed = follow("normalizer", [received(0, ("traceparent", parent(7)), ("traceparent", parent(8)))])
    assert followed
    followed.end()
    found = traced.spans()["normalizer ns.customers.clean"]
    assert found.parent is not None
    assert found.parent.trace_id == 7


def test_what_is_published_of_a_batch_carries_the_trace_of_its_record_and_is_otherwise_the_same(traced: Traced) -> None:
    followed = follow("postgres", [received(1, ("traceparent", parent(1))), received(2)])
    messages = [
        Outgoing("ns.customers.changed", 1, b"1", b"{}", [("a", b"b")]),
        Outgoing("ns.customers.changed", 1, b"2", b"{}"),
        Outgoing("ns.orders.changed", 1, b"1", b"{}"),
    ]
    with within(followed):
        note_outcome("customers", "inserted", ["1", "2"])
        carried = list(with_traces(messages))
    assert carried[1:] == messages[1:]
    assert carried[0].headers[0] == ("a", b"b")
    assert [name for name, _ in carried[0].headers] == ["a", "traceparent"]
    assert [getattr(carried[0], name) for name in ("topic", "partition", "key", "value")] == [
        "ns.customers.changed", 1, b"1", b"{}",
    ]  # fmt: skip
    assert with_traces(messages) is messages


def test_a_name_is_that_of_the_dataset_and_the_key() -> None:
    assert follower_name("customers.changed", "a") == follower_name("ns.customers.clean", b"a") == ("customers", b"a")
    assert follower_name("failures", None) == ("", None)


def test_log_lines_have_the_trace_of_what_they_are_about(traced: Traced) -> None:
    with span("publish shop", "PRODUCER", {"traceparent": parent(3).decode()}):
        assert add_trace_id(None, "info", {}) == {"trace_id": f"{3:032x}"}
    with within(follow("redis", [received(0, ("traceparent", parent(4)))])):
        assert add_trace_id(None, "info", {}) == {"trace_id": f"{4:032x}"}
    assert add_trace_id(None, "info", {}) == {}


class Away(SpanExporter):
    """A collector that is away, and comes back."""

    def __init__(self) -> None:
        self.result = SpanExportResult.FAILURE

    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002 (the interface's)
        return self.result

    def shutdown(self) -> None:
        pass


def test_a_collector_that_is_away_is_told_once_and_so_is_its_return() -> None:
    away = Away()
    told = tracing._Told(away, "http://127.0.0.1:4318")
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            told.export([])
        away.result = SpanExportResult.SUCCESS
        for _ in range(3):
            told.export([])
    assert [line["event"] for line in lines] == ["traces_not_sent", "traces_sent_again"]
    assert lines[0]["endpoint"] == "http://127.0.0.1:4318"


def test_settings_say_where_to_and_standard_variables_switch_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    there = "http://127.0.0.1:4318"
    assert tracing._endpoint(Settings()) is None
    assert tracing._endpoint(Settings(otel_exporter_otlp_endpoint=there)) == there
    assert tracing._endpoint(Settings(otel_exporter_otlp_traces_endpoint=f"{there}/x")) == f"{there}/x"
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert tracing._endpoint(Settings(otel_exporter_otlp_endpoint=there)) is None


def test_starting_without_an_address_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(tracing, "_Tracing", never)
    tracing.start_tracing(Settings(), "api")
    assert not tracing.is_tracing()
