"""Burrow, where it is installed (Debian's package `burrow`), beside our own verdicts.

It insists on a ZooKeeper, in which it keeps nothing that a single instance needs: what answers it here says yes.
"""

import shutil
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
offsets-topic="__consumer_offsets"
start-latest=true
"""

CREATE, EXISTS, GET_CHILDREN, PING, GET_CHILDREN_2, CLOSE = 1, 3, 8, 11, 12, -11


class _Zookeeper(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Session(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if self._message() is None:
            return
        self._answer(struct.pack(">iiqi16s", 0, 30_000, 1, 16, b"\0" * 16))
        while (message := self._message()) is not None:
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
            self._answer(struct.pack(">iqi", xid, 1, 0) + body)
            if operation == CLOSE:
                return

    def _message(self) -> bytes | None:
        head = self._exactly(4)
        return None if head is None else self._exactly(struct.unpack(">i", head)[0])

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                part = self.request.recv(count - len(data))
            except OSError:
                return None
            if not part:
                return None
            data += part
        return data

    def _answer(self, body: bytes) -> None:
        self.request.sendall(struct.pack(">i", len(body)) + body)


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

    def is_ready(self) -> bool:
        return self._client.get("/v3/kafka/local/topic").is_success


@contextmanager
def running_burrow(settings: Settings, folder: Path) -> Iterator[Burrow]:
    """Burrow on the broker of these settings."""
    assert BURROW is not None
    port = free_port()
    with _Zookeeper(("127.0.0.1", 0), _Session) as zookeeper:
        threading.Thread(target=zookeeper.serve_forever, daemon=True).start()
        at = zookeeper.server_address[1]
        servers = settings.kafka_bootstrap_servers.split(",")[0]
        config = CONFIG.format(folder=folder, zookeeper=at, port=port, kafka=servers)
        (folder / "burrow.toml").write_text(config)
        with (folder / "burrow.log").open("wb") as log:
            process = subprocess.Popen([BURROW, "--config-dir", str(folder)], stdout=log, stderr=log)
        try:
            burrow = Burrow(f"http://127.0.0.1:{port}")
            eventually(burrow.is_ready, what="Burrow is ready")
            yield burrow
        finally:
            process.kill()
            process.wait()
            zookeeper.shutdown()
