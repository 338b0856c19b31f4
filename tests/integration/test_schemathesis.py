"""The OpenAPI document keeps its word: schemathesis asks every operation whatever it allows, and what it does not."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.scopes import Scope
from runtime.settings import Settings
from services.runs.history import ask
from stores.api_keys import create_key
from tests.processes import PROJECT, Pipeline
from tests.waiting import eventually

ROLES = ("mock-server", "normalizer", "sink postgres", "api")

CONFIGURATION = PROJECT / "tests" / "integration" / "schemathesis.toml"


SCOPES = {"nobody": (), "everything": tuple(Scope)} | {str(scope): (scope,) for scope in Scope}
"""The scopes of each caller's key; without any it sends none."""

MOST_TELLING = ("nobody", "everything")


@pytest.fixture(scope="module")
def keys(shared_pipeline_settings: Settings) -> dict[str, str]:
    """A key for each caller that has one."""

    async def make(connection: AsyncConnection) -> dict[str, str]:
        having = {name: scopes for name, scopes in SCOPES.items() if scopes}
        return {name: (await create_key(connection, name, scopes, None))[1] for name, scopes in having.items()}

    return asyncio.run(ask(shared_pipeline_settings, make))


@pytest.fixture(scope="module")
def api(
    shared_pipeline_settings: Settings, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of an API that asks for keys and has something to tell: customers, a run, a user and a failure."""
    processes = Pipeline(shared_pipeline_settings, tmp_path_factory.mktemp("logs"), ROLES)
    url, key = processes["api"].url, {"Authorization": f"Bearer {keys['everything']}"}
    processes["api"].environment |= {"INGEST_TIMEOUT_SECONDS": "1", "API_ACCESS": "keys"}
    with processes:
        with httpx.Client(base_url=url, timeout=90, trust_env=False, headers=key) as client:
            client.post("/api/ingest").raise_for_status()
            eventually(
                lambda: client.get("/runs").json()["data"][0]["status"] == "success",
                what="customers are stored",
                within=120,
            )
            client.post("/users/", json={"name": "Ada", "email": "ada@example.org", "role": "admin"}).raise_for_status()
            client.post("/topics/customers.raw/messages", json={"customer_id": "C1"}).raise_for_status()
        yield url


@pytest.mark.parametrize("caller", SCOPES)
def test_every_answer_is_as_the_document_says(api: str, keys: dict[str, str], caller: str, tmp_path: Path) -> None:
    thorough = hypothesis.settings.get_current_profile_name() == "nightly"
    # A key of one scope asks less: most is refused before anything is looked at.
    often, seldom = ("100", "25") if thorough else ("8", "1")
    examples = often if caller in MOST_TELLING else seldom
    report = tmp_path / "report.json"
    key = ("--header", f"Authorization: Bearer {keys[caller]}") if caller in keys else ()
    told = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIGURATION, "run", f"{api}/openapi.json"),
            *("--checks", "all", "--max-examples", examples, "--workers", "1", *key),
            *("--phases", "examples,coverage,fuzzing,stateful" if thorough else "examples,fuzzing"),
            *(() if thorough else ("--seed", "1")),
            *("--report", "json", "--report-json-path", report, "--no-color"),
        ],
        cwd=tmp_path,
        env=os.environ | {"NO_PROXY": "*"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(report.read_text())
    assert found["complete"]
    assert found["operations"]["tested"] == found["operations"]["selected"] > 60
    most, least = (5_000, 1_000) if thorough else (300, 60)
    assert found["test_cases"]["generated"] >= (most if caller == "everything" else least)
