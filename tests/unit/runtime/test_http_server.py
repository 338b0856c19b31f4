"""A server of ours sleeps while nobody asks, and a stop wakes it up."""

import asyncio
import errno
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from runtime import health, http_server


async def test_a_stop_does_not_wait_for_the_next_look_at_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "LOOK_EVERY_SECONDS", 3600.0)
    monkeypatch.setattr(http_server, "stopping", threading.Event())
    server = http_server._Server(uvicorn.Config(PlainTextResponse("hello"), log_config=None), most=10)
    looks = 0

    async def look(_counter: int) -> bool:
        nonlocal looks
        looks += 1
        return server.should_exit

    monkeypatch.setattr(server, "on_tick", look)
    running = asyncio.create_task(server.main_loop())
    await asyncio.sleep(0.3)
    assert looks == 1, "uvicorn looks ten times a second"
    server.handle_exit(signal.SIGTERM, None)
    await asyncio.wait_for(running, 60)
    assert looks == 2


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.EADDRINUSE, "Address already in use"), "Stop the process that holds the port"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "Choose an address of this .* API_BIND"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Choose an address of this .* API_BIND"),
    ],
)
def test_a_place_where_nobody_can_listen_is_told_with_the_way_out(
    error: OSError, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(http_server.CannotListen, match=rf"on 192.0.2.1:8000: {error.strerror}\. {remedy}"):
        http_server._bind("192.0.2.1", 8000, "API", "API_PORT")


@pytest.mark.parametrize(("address", "family"), [("::", socket.AF_INET6), ("0.0.0.0", socket.AF_INET)])  # noqa: S104
def test_health_is_answered_where_there_is_only_one_kind_of_addresses(
    address: str, family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    for done in ("server_bind", "server_activate"):
        monkeypatch.setattr(health._Server, done, lambda _: None)
    server = health._Server((address, 8101), BaseHTTPRequestHandler)
    assert server.socket.family == family
    server.server_close()
