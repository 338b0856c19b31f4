"""`/docs` works on a machine without a network."""

import re

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from mock_server.app import create_app as create_mock_server
from runtime.settings import Settings


@pytest.mark.parametrize(
    "app",
    [create_app(Settings(api_access="open")), create_mock_server(Settings())],
)
async def test_the_documentation_loads_nothing_from_elsewhere(app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as client:
        page = await client.get("/docs")
        loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
        assert any(address.endswith(".js") for address in loaded)
        for address in loaded:
            assert address.startswith("/")
            assert (await client.get(address)).status_code == 200
