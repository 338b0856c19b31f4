"""A collector of OpenTelemetry's: takes spans by OTLP over HTTP on loopback, and keeps them."""

import gzip
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

Ids = tuple[str, str]
"""Trace and span."""


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as a process has sent it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[Ids, ...]
    attributes: dict[str, object]

    @property
    def ids(self) -> Ids:
        return self.trace, self.id


@dataclass
class OtlpReceiver:
    """Serves while it is entered."""

    spans: list[ReceivedSpan] = field(default_factory=list)

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.spans += _spans(body)
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def of_trace(self, trace: str) -> dict[str, ReceivedSpan]:
        """The spans of a trace by their names, of which it must not have two alike."""
        found = [span for span in list(self.spans) if span.trace == trace]
        names = {span.name: span for span in found}
        assert len(names) == len(found), sorted(span.name for span in found)
        return names


def _spans(body: bytes) -> list[ReceivedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        ReceivedSpan(
            str(_plain(resource.resource.attributes)["service.name"]),
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            _plain(span.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _plain(attributes: object) -> dict[str, object]:
    return {one.key: _value(one.value) for one in attributes}  # type: ignore[attr-defined]


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
