"""The OpenAPI document keeps its word: schemathesis asks every operation whatever it allows, and what it does not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest

from runtime.settings import Settings
from tests.processes import PROJECT, Pipeline
from tests.waiting import eventually

ROLES = ("mock-server", "normalizer", "sink postgres", "api")

CONFIGURATION = PROJECT / "tests" / "integration" / "schemathesis.toml"


@pytest.fixture(scope="module")
def api(shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an API with something to tell: customers, a run, a user and a failure."""
    processes = Pipeline(shared_pipeline_settings, tmp_path_factory.mktemp("logs"), ROLES)
    url = processes["api"].url
    processes["api"].environment |= {"INGEST_TIMEOUT_SECONDS": "1"}
    with processes:
        with httpx.Client(base_url=url, timeout=90, trust_env=False) as client:
            client.post("/api/ingest").raise_for_status()
            eventually(
                lambda: client.get("/runs").json()["data"][0]["status"] == "success",
                what="customers are stored",
                within=120,
            )
            client.post("/users/", json={"name": "Ada", "email": "ada@example.org", "role": "admin"}).raise_for_status()
            client.post("/topics/customers.raw/messages", json={"customer_id": "C1"}).raise_for_status()
        yield url


def test_every_answer_is_as_the_document_says(api: str, tmp_path: Path) -> None:
    thorough = hypothesis.settings.get_current_profile_name() == "nightly"
    report = tmp_path / "report.json"
    told = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIGURATION, "run", f"{api}/openapi.json"),
            *("--checks", "all", "--max-examples", "100" if thorough else "8", "--workers", "2"),
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
    assert found["test_cases"]["generated"] >= (5_000 if thorough else 300)
