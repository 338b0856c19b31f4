"""Keeps processes and servers running while a test kills them, as the supervisor of a stack would."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from tests.processes import Pipeline
from tests.servers.contract import SERVER_NAMES, ServerName, Servers

LOOK_EVERY_SECONDS = 0.5


class Supervision:
    """Restarts what has died. Kills one thing at a time, so that nothing is killed while it starts."""

    def __init__(self, pipeline: Pipeline, servers: Servers) -> None:
        self._pipeline = pipeline
        self._servers = servers
        self._starting: dict[ServerName, Future[None]] = {}
        self._starter = ThreadPoolExecutor(4)
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._restart_the_dead, name="supervision")
        self._lock = threading.Lock()
        self.crashes: list[str] = []
        """Processes that ended although nobody killed them."""

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watch.join()
        for start in self._starting.values():
            start.result()
        self._starter.shutdown()

    @property
    def victims(self) -> list[str]:
        """Everything that can be killed now: every process, and each server that is up."""
        up = [name for name in SERVER_NAMES if name not in self._starting or self._starting[name].done()]
        return [*self._pipeline.processes, *up]

    def kill(self, name: str) -> None:
        """kill -9, and start it again."""
        for server in SERVER_NAMES:
            if name == server:
                self._servers.kill(server)
                self._starting[server] = self._starter.submit(self._servers.start, server)
                return
        with self._lock:
            self._pipeline[name].kill()
            self._pipeline[name].start()

    def wait_until_all_run(self) -> None:
        """Block until every server has started and every process is healthy."""
        for start in self._starting.values():
            start.result()
        for process in self._pipeline.processes.values():
            process.wait_until_healthy()

    def _restart_the_dead(self) -> None:
        while not self._ended.wait(LOOK_EVERY_SECONDS):
            with self._lock:
                for role, process in self._pipeline.processes.items():
                    if (code := process.exit_code) is not None:
                        self.crashes.append(f"{role} ended with {code}: {process.log_tail(3)}")
                        process.start()
