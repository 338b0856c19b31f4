"""The native back end: the same local servers that `headrace up` runs, on free ports with temporary data."""

import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path

from local_stack.servers import start_servers
from tests.servers.contract import SERVER_NAMES, ServerName
from tests.servers.databases import spare_the_disk


class NativeServers:
    """Starts all four; see `tests.servers.contract.Servers`."""

    description = "servers: native processes on loopback"

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stack = ExitStack()
        # Root's servers run as another user, who has to pass through.
        home.chmod(0o711)
        started = start_servers(home, names=set(SERVER_NAMES), superuser_password=secrets.token_urlsafe(24))
        self._running = self._stack.enter_context(started)
        spare_the_disk(self.addresses["SUPERUSER_DATABASE_URL"])

    @property
    def addresses(self) -> dict[str, str]:
        return dict(self._running.addresses)

    def stop(self, name: ServerName) -> None:
        self._running.stop(name)

    def kill(self, name: ServerName) -> None:
        self._running.kill(name)

    def start(self, name: ServerName) -> None:
        self._running.start(name)

    def pause(self, name: ServerName) -> None:
        self._running.pause(name)

    def resume(self, name: ServerName) -> None:
        self._running.resume(name)

    def close(self) -> None:
        self._stack.close()
        shutil.rmtree(self._home, ignore_errors=True)
