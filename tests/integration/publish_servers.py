"""Real HTTP servers to publish from, and a reader of what was published."""

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

import uvicorn
from confluent_kafka import Consumer, TopicPartition
from fastapi import FastAPI

from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from tests.waiting import eventually


class Answer(NamedTuple):
    """A body that is no bytes is sent piece by piece, without a length, until the other side goes."""

    status: int
    body: bytes | Iterable[bytes]
    headers: Mapping[str, str] = MappingProxyType({})


class Request(NamedTuple):
    path: str
    query: dict[str, str]
    headers: dict[str, str]


Script = Callable[[Request], Answer]


@contextmanager
def http_server(
    script: Script, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server that answers as the script says, on a free port unless one is given; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            answer = script(Request(parts.path, query, {k.lower(): v for k, v in self.headers.items()}))
            self.send_response(answer.status)
            pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
            length = {"Content-Length": str(len(answer.body))} if isinstance(answer.body, bytes) else {}
            for name, value in {**length, **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):
                for piece in pieces:
                    self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def app_server(app: FastAPI) -> Iterator[str]:
    """A FastAPI application under uvicorn on a free port; its base URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, what="uvicorn serves", within=20, every=0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Consumed(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: str | None
    value: bytes
    headers: dict[str, str]


def consume_all(settings: Settings, logical_topic: str) -> list[Consumed]:
    """Every record of a topic, by partition and offset."""
    topic = settings.named(logical_topic)
    ends = {place.partition: end for place, end in end_offsets(settings, [topic]).items()}
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "reader", "log_level": 2})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        found: list[Consumed] = []

        def complete() -> bool:
            for message in consumer.consume(10_000, timeout=0.2):
                assert message.error() is None
                key = message.key()
                headers = cast("list[tuple[str, bytes]]", message.headers() or [])
                found.append(
                    Consumed(
                        topic,
                        message.partition() or 0,
                        message.offset() or 0,
                        key.decode() if isinstance(key, bytes) else key,
                        message.value() or b"",
                        {name: value.decode() for name, value in headers},
                    )
                )
            return len(found) >= sum(ends.values())

        eventually(complete, what=f"{sum(ends.values())} records read from {topic}")
    finally:
        consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))
