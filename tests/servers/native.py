"""The native back ends: the local servers that `headrace up` runs, on free ports with temporary data; and the same with
OpenSearch in the place of Elasticsearch."""

import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path

from local_stack.servers import start_servers
from tests.servers.contract import SERVER_NAMES, ServerName
from tests.servers.databases import spare_the_disk
from tests.servers.opensearch_node import start_opensearch


class NativeServers:
    """Starts all four; see `tests.servers.contract.Servers`."""

    def __init__(self, home: Path, *, opensearch: bool = False) -> None:
        self.description = "servers: native processes on loopback"
        self._home = home
        self._stack = ExitStack()
        # Root's servers run as another user, who has to pass through.
        home.chmod(0o711)
        names = set(SERVER_NAMES) - ({"elasticsearch"} if opensearch else set())
        started = start_servers(home, names=names, superuser_password=secrets.token_urlsafe(24))
        running = self._stack.enter_context(started)
        self._running = dict.fromkeys(SERVER_NAMES, running)
        if opensearch:
            self._running["elasticsearch"] = self._stack.enter_context(start_opensearch(home / "opensearch"))
            self.description = "servers: native processes on loopback, OpenSearch among them"
        spare_the_disk(self.addresses["SUPERUSER_DATABASE_URL"])

    @property
    def addresses(self) -> dict[str, str]:
        return {name: value for running in self._running.values() for name, value in running.addresses.items()}

    def stop(self, name: ServerName) -> None:
        self._running[name].stop(name)

    def kill(self, name: ServerName) -> None:
        self._running[name].kill(name)

    def start(self, name: ServerName) -> None:
        self._running[name].start(name)

    def pause(self, name: ServerName) -> None:
        self._running[name].pause(name)

    def resume(self, name: ServerName) -> None:
        self._running[name].resume(name)

    def close(self) -> None:
        self._stack.close()
        shutil.rmtree(self._home, ignore_errors=True)
