"""`/docs` works on a machine without a network."""

import re
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from api.app import create_app
from api.stages import PartitionLag, Stages
from mock_server.app import create_app as create_mock_server
from runtime.settings import Settings
from schemas.dataset import Dataset
from services.runs.run import EtlRun, Published
from tests.integration.api_client import NoWebhooks


async def publishes_nothing(run: EtlRun) -> Published:
    return Published(0, {})


async def deletes_nothing(dataset: Dataset, key: str) -> Published:
    return Published(0, {})


async def no_lag() -> Sequence[PartitionLag]:
    return []


async def no_audit(engine: AsyncEngine) -> dict[str, Any]:
    return {}


STAGES = Stages(publishes_nothing, deletes_nothing, no_lag, no_audit, NoWebhooks())


@pytest.mark.parametrize(
    "app",
    [create_app(Settings(), STAGES), create_mock_server(Settings())],
)
async def test_the_documentation_loads_nothing_from_elsewhere(app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as client:
        page = await client.get("/docs")
        loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
        assert any(address.endswith(".js") for address in loaded)
        for address in loaded:
            assert address.startswith("/")
            assert (await client.get(address)).status_code == 200
