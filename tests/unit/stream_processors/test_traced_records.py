"""Traced records are normalized to the same bytes as others; only their headers differ."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime import tracing
from tests.unit.stream_processors.raw_records import RawRecord, RecordingProducer, customer
from tests.unit.stream_processors.test_normalizer_stage import Scene

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class ProducerOfHeaders(RecordingProducer):
    """Keeps the headers too."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[Any] = []

    def produce(self, *message: Any, headers: Any = None) -> None:
        super().produce(*message)
        self.headers.append(headers)


async def produced(headers: list[tuple[str, bytes | None]]) -> ProducerOfHeaders:
    producer = ProducerOfHeaders()
    scene = Scene(producer)
    others = RawRecord(customer(customer_id="B"), [("headrace-source", b"s")], offset=43)
    await scene.take(RawRecord(customer(), headers), RawRecord(b"{broken", headers, offset=44), others)
    producer.answer()
    await asyncio.sleep(0)
    return producer


async def test_a_trace_changes_headers_alone_and_its_span_ends_with_the_confirmation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.time", constant(1_700_000_000.0))
    source: list[tuple[str, bytes | None]] = [("headrace-source", b"s")]
    plain = await produced(source)
    exporter = InMemorySpanExporter()
    made = tracing._Tracing(exporter, "normalizer", "0")
    monkeypatch.setattr(tracing, "_tracing", made)
    traced = await produced([*source, ("traceparent", PARENT)])
    assert traced.produced == plain.produced
    assert plain.headers == [None] * 3
    [(name, value)], failed, other = traced.headers
    assert (name, value[:36], value[36:52] == PARENT[36:52]) == ("traceparent", PARENT[:36], False)
    assert (failed, other) == ([(name, value)], None)
    made.flush()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    attributes = spans["normalizer customers.raw"].attributes
    assert attributes is not None
    assert attributes["headrace.outcome"] == ("clean", "failed")
    made.close()


def constant(value: float) -> Callable[[], float]:
    return lambda: value
