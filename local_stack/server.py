"""The protocol of local servers, whether the supervisor or a test runs them."""

import socket
from typing import Protocol


class Server(Protocol):
    """One server process. Building one touches nothing; `prepare` may run programs and write files."""

    @property
    def name(self) -> str:
        """Its program name under the supervisor, and the stem of its log file."""

    @property
    def port(self) -> int:
        """The loopback TCP port on which clients reach it."""

    @property
    def stop_signal(self) -> str:
        """The signal, without SIG, that stops it cleanly while clients are connected."""

    def prepare(self) -> None:
        """Make its data folder and configuration ready. Blocking (seconds at first), idempotent.

        Raises StackError when the folder can't be used.
        """

    def command(self) -> list[str]:
        """Its argument vector; the program runs in the foreground and logs to standard output."""

    def environment(self) -> dict[str, str]:
        """Variables that it needs besides the inherited ones."""

    def addresses(self) -> dict[str, str]:
        """The variables under which clients find it, as `runtime.settings` reads them."""

    def problem(self) -> str | None:
        """Ask the server itself: None when it serves, otherwise what is wrong. Blocks 3 s at most."""


def listens(port: int) -> bool:
    """True if anything accepts connections on this loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
