"""Burrow, where it is installed (Debian's package `burrow`), beside our own verdicts.

It insists on a ZooKeeper, in which it keeps nothing that a single instance needs: what answers it here says yes. It
asks for ends in a version of ListOffsets that Kafka 4 has dropped: a proxy between the two asks in the next one. And it
does not know the form in which Kafka 4.1 writes commits: a test writes them to a topic of its own, in the form before.
"""

import queue
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from runtime.settings import Settings
from tests.processes import free_port
from tests.waiting import eventually

BURROW = shutil.which("Burrow") or shutil.which("burrow")

CONFIG = """
[general]
pidfile="{folder}/burrow.pid"
[logging]
level="info"
[zookeeper]
servers=["127.0.0.1:{zookeeper}"]
timeout=30
[client-profile.test]
client-id="burrow-test"
kafka-version="2.0.0"
[httpserver.default]
address="127.0.0.1:{port}"
[storage.default]
class-name="inmemory"
intervals=10
expire-group=604800
min-distance=1
[cluster.local]
class-name="kafka"
servers=["{kafka}"]
client-profile="test"
topic-refresh=5
offset-refresh=1
[consumer.local]
class-name="kafka"
cluster="local"
servers=["{kafka}"]
client-profile="test"
offsets-topic="{offsets}"
start-latest=true
"""

CREATE, EXISTS, GET_CHILDREN, PING, GET_CHILDREN_2, CLOSE = 1, 3, 8, 11, 12, -11


class _Zookeeper(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Session(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if _frame(self.request) is None:
            return
        _send(self.request, struct.pack(">iiqi16s", 0, 30_000, 1, 16, b"\0" * 16))
        while (message := _frame(self.request)) is not None:
            xid, operation = struct.unpack_from(">ii", message)
            body = b""
            if operation == CREATE:
                (length,) = struct.unpack_from(">i", message, 8)
                path = message[12 : 12 + length]
                body = struct.pack(">i", len(path)) + path
            elif operation == EXISTS:
                body = b"\0" * 68
            elif operation in (GET_CHILDREN, GET_CHILDREN_2):
                body = struct.pack(">i", 0) + (b"\0" * 68 if operation == GET_CHILDREN_2 else b"")
            _send(self.request, struct.pack(">iqi", xid, 1, 0) + body)
            if operation == CLOSE:
                return


LIST_OFFSETS, METADATA = 2, 3


class _Proxy(socketserver.ThreadingTCPServer):
    """In front of a cluster of one broker."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, broker: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.broker = broker
        self.port = int(self.server_address[1])


class _Passage(socketserver.BaseRequestHandler):
    """One connection of Burrow's. It has one request under way at a time, or several: answers come in order."""

    def handle(self) -> None:
        proxy = self.server
        assert isinstance(proxy, _Proxy)
        under_way: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        with socket.create_connection(proxy.broker) as upstream:
            back = threading.Thread(target=self._answers, args=(upstream, proxy, under_way), daemon=True)
            back.start()
            while (message := _frame(self.request)) is not None:
                kind, version = struct.unpack_from(">hh", message)
                rewritten = kind == LIST_OFFSETS and version == 0
                under_way.put(kind if rewritten or kind == METADATA else None)
                _send(upstream, _newer(message) if rewritten else message)
            upstream.shutdown(socket.SHUT_RDWR)
            back.join(5)

    def _answers(self, upstream: socket.socket, proxy: _Proxy, under_way: "queue.SimpleQueue[int | None]") -> None:
        while (message := _frame(upstream)) is not None:
            kind = under_way.get()
            if kind == LIST_OFFSETS:
                message = _older(message)
            elif kind == METADATA:
                host, port = proxy.broker
                name = struct.pack(">h", len(host)) + host.encode()
                message = message.replace(name + struct.pack(">i", port), name + struct.pack(">i", proxy.port))
            _send(self.request, message)


class _Bytes:
    """Reads a message from its beginning on."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def take(self, form: str) -> Any:
        found = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return found[0] if len(found) == 1 else found

    def text(self) -> bytes:
        length = self.take(">h")
        self.at += max(0, length)
        return self._data[self.at - max(0, length) : self.at]


def _newer(request: bytes) -> bytes:
    """ListOffsets version 0 as version 1, which has no number of offsets."""
    data = _Bytes(request)
    kind, _, correlation = data.take(">hhi")
    client, replica = data.text(), data.take(">i")
    out = struct.pack(">hhih", kind, 1, correlation, len(client)) + client + struct.pack(">i", replica)
    topics = data.take(">i")
    out += struct.pack(">i", topics)
    for _ in range(topics):
        topic, partitions = data.text(), data.take(">i")
        out += struct.pack(">h", len(topic)) + topic + struct.pack(">i", partitions)
        for _ in range(partitions):
            partition, timestamp, _ = data.take(">iqi")
            out += struct.pack(">iq", partition, timestamp)
    return out


def _older(answer: bytes) -> bytes:
    """The answer of version 1 as version 0, which has an array of offsets."""
    data = _Bytes(answer)
    out = struct.pack(">i", data.take(">i"))
    topics = data.take(">i")
    out += struct.pack(">i", topics)
    for _ in range(topics):
        topic, partitions = data.text(), data.take(">i")
        out += struct.pack(">h", len(topic)) + topic + struct.pack(">i", partitions)
        for _ in range(partitions):
            partition, error, _, offset = data.take(">ihqq")
            out += struct.pack(">ihiq", partition, error, 1, offset)
    return out


def _frame(connection: socket.socket) -> bytes | None:
    """A message with its length before it; None at the end."""
    head = _exactly(connection, 4)
    return None if head is None else _exactly(connection, struct.unpack(">i", head)[0])


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        try:
            part = connection.recv(count - len(data))
        except OSError:
            return None
        if not part:
            return None
        data += part
    return data


def _send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(struct.pack(">i", len(body)) + body)


def commit_record(group: str, topic: str, offset: int) -> tuple[bytes, bytes]:
    """Key and value of a commit in partition 0, as brokers before Kafka 4.1 write them."""
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in (group, topic))
    value = struct.pack(">hqihq", 3, offset, -1, 0, int(time.time() * 1000))
    return struct.pack(">h", 1) + names + struct.pack(">i", 0), value


class Burrow:
    """A running Burrow."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=10)

    def verdict(self, group: str) -> str | None:
        """Its word for a group: OK, WARN, ERR, STOP, STALL, REWIND; None if it does not know the group."""
        status = self.status(group)
        return None if status is None else str(status["status"])

    def status(self, group: str) -> dict[str, object] | None:
        """All that it says of a group."""
        answer = self._client.get(f"/v3/kafka/local/consumer/{group}/lag")
        return None if answer.is_error else dict(answer.json()["status"])

    def close(self) -> None:
        """Close the connection to it."""
        self._client.close()

    def is_ready(self) -> bool:
        """True once it answers."""
        return self._client.get("/v3/kafka/local/topic").is_success


@contextmanager
def running_burrow(settings: Settings, folder: Path, offsets: str) -> Iterator[Burrow]:
    """Burrow on the broker of these settings, with the commits that are in the topic `offsets`."""
    assert BURROW is not None
    port = free_port()
    host, _, broker_port = settings.kafka_bootstrap_servers.rpartition(":")
    with _Zookeeper(("127.0.0.1", 0), _Session) as zookeeper, _Proxy((host, int(broker_port))) as proxy:
        for server in (zookeeper, proxy):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        at = zookeeper.server_address[1]
        config = CONFIG.format(folder=folder, zookeeper=at, port=port, offsets=offsets, kafka=f"127.0.0.1:{proxy.port}")
        (folder / "burrow.toml").write_text(config)
        with (folder / "burrow.log").open("wb") as log:
            process = subprocess.Popen([BURROW, "--config-dir", str(folder)], stdout=log, stderr=log)
        burrow = Burrow(f"http://127.0.0.1:{port}")
        try:
            eventually(burrow.is_ready, what="Burrow is ready")
            yield burrow
        finally:
            burrow.close()
            process.kill()
            process.wait()
            zookeeper.shutdown()
            proxy.shutdown()
