"""OpenTelemetry traces: off unless OTEL_EXPORTER_OTLP_ENDPOINT says where they are sent, by OTLP over HTTP.

Off, nothing of OpenTelemetry's SDK is imported, and each call here returns at its first line; none is made per record.

A trace travels in the W3C header `traceparent`: from a request or a run into its raw records, and from a record into
whatever follows from it. A stage works on batches, so it makes a span for each of the traces in a batch (MOST_TRACES at
most; further ones are handed on as they came), and one for the batch itself, with links to those. What is not sampled
is handed on too, and costs no span. Attributes name topics, partitions, offsets and outcomes, and never a key.
"""

import atexit
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import msgspec
import structlog

from runtime.settings import Settings, read_variables

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span

    from runtime.kafka.confirmed import Outgoing

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"

MOST_TRACES = 32
"""Spans, and links of the batch's span, that a stage makes for one batch."""

EXIT_SECONDS = 2.0
"""A process that ends waits so long for its last spans to be sent."""

Headers = list[tuple[str, str | bytes | None]]
Kind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]

log = structlog.get_logger()


class Received(NamedTuple):
    """A record of a batch. `name` is what its stage calls it by in `Followed`; `offset` None where it has none yet."""

    name: Any
    topic: str
    partition: int | None
    offset: int | None
    headers: Iterable[tuple[str, str | bytes | None]] | None


def follower_name(topic: str, key: bytes | str | None) -> tuple[str, bytes | str | None]:
    """The name of what a sink gets and of what it publishes of it: the dataset of its topic, and the key. Pure."""
    return topic.rpartition(".")[0].rpartition(".")[2], key.encode() if isinstance(key, str) else key


def start_tracing(settings: Settings, role: str) -> None:
    """Begin to trace this process if the settings say where to; idempotent. Connects when the first span is sent.

    OTEL_* in `.env` count like those of the environment; OpenTelemetry itself reads what is not in our settings.
    """
    global _tracing
    if _tracing is None and (endpoint := _endpoint(settings)):
        for name, value in read_variables().items():
            if name.startswith("OTEL_"):
                os.environ.setdefault(name, value)
        if settings.otel_exporter_otlp_endpoint:
            os.environ.setdefault("OTEL_EXPORTER_OTLP_ENDPOINT", settings.otel_exporter_otlp_endpoint)
        if settings.otel_exporter_otlp_traces_endpoint:
            os.environ.setdefault("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", settings.otel_exporter_otlp_traces_endpoint)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        _tracing = _Tracing(cast("SpanExporter", _Told(OTLPSpanExporter(), endpoint)), role, settings.worker_id)
        atexit.register(_tracing.close)
        log.info("tracing", endpoint=endpoint, service=_tracing.service)


def is_tracing() -> bool:
    """True where this process makes spans."""
    return _tracing is not None


@contextmanager
def span(
    name: str, kind: Kind = "INTERNAL", parent: Mapping[str, str] | None = None, **attributes: str | int
) -> Iterator["Span | None"]:
    """Do something within a span, None where nothing is traced. `parent`: the headers of a caller in another process.

    Attributes' names have underscores for points.
    """
    if _tracing is None:
        yield None
        return
    context = None if parent is None else _tracing.context_of(parent)
    with _tracing.tracer.start_as_current_span(
        name, context, _tracing.kinds[kind], {name.replace("_", "."): value for name, value in attributes.items()}
    ) as made:
        yield made


def trace_headers() -> Headers:
    """The headers of a record that follows from what is being done; none where that has no trace."""
    return [] if _tracing is None else _tracing.headers_here()


def traceparent() -> str | None:
    """The same as text, to be kept with what follows later; None where there is no trace."""
    return next((_text(value) for name, value in trace_headers() if name == TRACEPARENT and value), None)


def follow(stage: str, records: Iterable[Received]) -> "Followed | None":
    """The traces of a batch; None where no record has one. The records are not looked at unless traces are made."""
    if _tracing is None:
        return None
    followed = Followed(_tracing, stage, records)
    return followed if followed.traced else None


@contextmanager
def within(followed: "Followed | None") -> Iterator[None]:
    """Work on a batch: what is published and logged meanwhile belongs to its traces."""
    if followed is None or _tracing is None:
        yield
        return
    token = _following.set(followed)
    try:
        with _tracing.use_span(followed.main, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield
    finally:
        _following.reset(token)


def note_outcome(dataset: str, outcome: str, keys: Iterable[str]) -> None:
    """Say what became of records of the batch that is worked on."""
    if (followed := _following.get()) is not None:
        for key in keys:
            followed.outcome((dataset, key.encode()), outcome)


def with_traces(messages: "Iterable[Outgoing]") -> "Iterable[Outgoing]":
    """The same messages, with the traces of those of the batch that they follow from. Lazy."""
    if (followed := _following.get()) is None:
        return messages
    return (
        msgspec.structs.replace(message, headers=[*message.headers, *headers])
        if (headers := followed.headers(follower_name(message.topic, message.key)))
        else message
        for message in messages
    )


def add_trace_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor of structlog: `trace_id` of what the line is about, if it has one."""
    if _tracing is not None and (trace_id := _tracing.trace_id_here()):
        event["trace_id"] = trace_id
    return event


class Followed:
    """A batch with traces in it: their spans, which begin at once and end with `end`; and the batch's own.

    Everything but the making is cheap enough to be asked per record.
    """

    def __init__(self, tracing: "_Tracing", stage: str, records: Iterable[Received]) -> None:
        self._stage = stage
        self._traces: dict[tuple[Any, ...], _Trace] = {}
        self._of: dict[Any, _Trace] = {}
        total = 0
        for record in records:
            total += 1
            if record.headers and (carried := _carried(record.headers)):
                trace = self._traces.get(carried)
                if trace is None:
                    trace = self._traces[carried] = self._trace(tracing, record, carried)
                trace.records += 1
                self._of[record.name] = trace
        self.traced = bool(self._of)
        spans = [trace.span for trace in self._traces.values() if trace.span is not None]
        self._batch = tracing.batch_span(stage, total, spans) if spans else None
        self.main = spans[0] if len(spans) == 1 else self._batch or tracing.no_span

    def headers(self, name: Any) -> Headers | None:
        """Those that carry the trace of this record on."""
        trace = self._of.get(name)
        return None if trace is None else trace.headers

    def outcome(self, name: Any, outcome: str) -> None:
        """Say what became of this record."""
        if (trace := self._of.get(name)) is not None and trace.span is not None:
            trace.outcomes[outcome] = trace.outcomes.get(outcome, 0) + 1

    def end(self) -> None:
        """All is safe that came of the batch."""
        for trace in self._traces.values():
            if trace.span is not None:
                trace.span.set_attribute("messaging.batch.message_count", trace.records)
                if trace.outcomes:
                    trace.span.set_attribute("headrace.outcome", sorted(trace.outcomes))
                trace.span.end()
        if self._batch is not None:
            self._batch.end()

    def _trace(self, tracing: "_Tracing", record: Received, carried: tuple[Any, ...]) -> "_Trace":
        parent = tracing.context_of({name: _text(value) for name, value in carried})
        if not tracing.is_sampled(parent) or len(self._traces) >= MOST_TRACES:
            return _Trace(None, [(name, value) for name, value in carried if tracing.is_valid(parent)])
        made = tracing.record_span(self._stage, record, parent)
        return _Trace(made if made.is_recording() else None, tracing.headers_of(made))


class _Trace(msgspec.Struct, gc=False):
    """One trace in a batch. No span: it is handed on as it came."""

    span: Any
    headers: Headers
    records: int = 0
    outcomes: dict[str, int] = {}


class _Tracing:
    """OpenTelemetry's SDK, as far as it is used here."""

    def __init__(self, exporter: "SpanExporter", role: str, worker_id: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        from opentelemetry.trace import INVALID_SPAN, Link, SpanKind, get_current_span, set_span_in_context, use_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.service = os.environ.get("OTEL_SERVICE_NAME") or f"headrace-{role}"
        names = {"service.name": self.service, "service.instance.id": f"{role}-{worker_id}", "headrace.role": role}
        resource = Resource.create(names)
        self._processor = BatchSpanProcessor(exporter)
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        # A batch is recorded if one of its records is, whatever share of all traces that are.
        batches = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        batches.add_span_processor(self._processor)
        self.tracer = provider.get_tracer("headrace")
        self._batches = batches.get_tracer("headrace")
        self.kinds: dict[str, Any] = {kind.name: kind for kind in SpanKind}
        self.use_span, self.no_span = use_span, INVALID_SPAN
        self._link, self._span_in, self._in_context = Link, get_current_span, set_span_in_context
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what is left. Blocking, EXIT_SECONDS at most."""
        self._processor._batch_processor.shutdown(int(EXIT_SECONDS * 1000))  # noqa: SLF001 (its public way takes 30 s)

    def flush(self) -> None:
        """Send what has ended. Blocking."""
        self._processor.force_flush()

    def context_of(self, headers: Mapping[str, str]) -> "Context":
        """The context that a caller's headers tell of; an empty one where they tell of none."""
        return self._propagator.extract(dict(headers), self._in_context(self.no_span))

    def is_valid(self, context: "Context") -> bool:
        return self._span_in(context).get_span_context().is_valid

    def is_sampled(self, context: "Context") -> bool:
        found = self._span_in(context).get_span_context()
        return found.is_valid and found.trace_flags.sampled

    def headers_here(self) -> Headers:
        return self._headers(None)

    def headers_of(self, of: "Span") -> Headers:
        return self._headers(self._in_context(of))

    def trace_id_here(self) -> str | None:
        here = self._span_in().get_span_context()
        return f"{here.trace_id:032x}" if here.is_valid else None

    def record_span(self, stage: str, record: Received, parent: "Context") -> "Span":
        """The span of a record's trace in a batch, in the words of OpenTelemetry's conventions for messaging."""
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.operation.name": stage,
            "messaging.destination.name": record.topic,
        }
        if record.partition is not None:
            attributes["messaging.destination.partition.id"] = str(record.partition)
        if record.offset is not None:
            attributes["messaging.kafka.offset"] = record.offset
        return self.tracer.start_span(f"{stage} {record.topic}", parent, self.kinds["CONSUMER"], attributes)

    def batch_span(self, stage: str, records: int, spans: "list[Span]") -> "Span":
        """The span of a whole batch, linked to the records' and they to it."""
        links = [self._link(one.get_span_context()) for one in spans]
        attributes: dict[str, str | int] = {
            "messaging.operation.name": stage,
            "messaging.batch.message_count": records,
        }
        batch = self._batches.start_span(
            f"{stage} batch", self._in_context(self.no_span), self.kinds["INTERNAL"], attributes, links
        )
        for one in spans:
            one.add_link(batch.get_span_context())
        return batch

    def _headers(self, context: "Context | None") -> Headers:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context)
        return [(name, value.encode()) for name, value in carrier.items()]


class _Told:
    """Says once that spans cannot be sent, and once that they can again: they are dropped meanwhile, nothing waits."""

    def __init__(self, exporter: "SpanExporter", endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._failing = False
        self._reason = _LastLine()
        logger = logging.getLogger("opentelemetry")  # it writes a line per try
        logger.handlers, logger.propagate = [self._reason], False

    def export(self, spans: "list[ReadableSpan]") -> "SpanExportResult":
        result = self._exporter.export(spans)
        if (failed := result.name != "SUCCESS") != self._failing:
            self._failing = failed
            if failed:
                log.warning(
                    "traces_not_sent",
                    endpoint=self._endpoint,
                    reason=self._reason.line,
                    consequence="they are dropped",
                    remedy="a collector or Jaeger has to take OTLP over HTTP there, mostly on port 4318",
                )
            else:
                log.info("traces_sent_again", endpoint=self._endpoint)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _LastLine(logging.Handler):
    """Keeps what the SDK has said last."""

    line = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.line = record.getMessage()[:500]


_tracing: _Tracing | None = None

_following: ContextVar[Followed | None] = ContextVar("following", default=None)


def _endpoint(settings: Settings) -> str | None:
    """Where spans are to be sent; None: nothing is traced."""
    if settings.otel_sdk_disabled or read_variables().get("OTEL_TRACES_EXPORTER", "otlp").lower() == "none":
        return None
    return settings.otel_exporter_otlp_traces_endpoint or settings.otel_exporter_otlp_endpoint


def _carried(headers: Iterable[tuple[str, str | bytes | None]]) -> tuple[Any, ...]:
    """The headers that carry a trace; of repeated ones the first, since a producer's own stand before ours. Pure."""
    found: dict[str, str | bytes] = {}
    for name, value in headers:
        if value and (name in {TRACEPARENT, TRACESTATE}):
            found.setdefault(name, value)
    return tuple(found.items()) if TRACEPARENT in found else ()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
