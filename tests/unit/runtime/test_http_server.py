"""A server of ours sleeps while nobody asks, and a stop wakes it up."""

import asyncio
import signal
import threading

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from runtime import http_server


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
