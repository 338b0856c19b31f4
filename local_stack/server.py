"""The protocol of local servers, whether the supervisor or a test runs them."""

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any, Protocol

ANSWER_SECONDS = 2.5

IN_UTC = {"TZ": "UTC"}
"""For servers whose logs have times without a zone."""


class NoAnswer(Exception):
    """A process that listens has not answered, or not in time."""


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


def get(port: int, path: str, seconds: float = ANSWER_SECONDS) -> tuple[int, Any]:
    """The status and the JSON, None if it is none, that a process on this machine answers. Raises NoAnswer.

    By the standard library: HTTP clients take longer to load than all processes of a stack to answer.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as error:
        raise NoAnswer(f"does not answer {path}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    try:
        return answer.status, json.loads(body)
    except ValueError:
        return answer.status, None
