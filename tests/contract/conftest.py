"""One real stack for all contracts: started as a user starts it, asked over HTTP and on the command line."""

from collections.abc import Iterator

import httpx
import pytest

from runtime.settings import Settings
from tests.e2e.command_line import CommandLine, running_stack
from tests.processes import PLAIN


@pytest.fixture(scope="package")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """`headrace` on a running stack that has ingested nothing yet. Tests share it: use keys and sources of your own."""
    variables = {"TOPIC_PARTITIONS": "2", "REHEARSALS": "true"}
    with running_stack(tmp_path_factory.mktemp("contract") / ".headrace", variables) as command_line:
        yield command_line


@pytest.fixture(scope="package")
def settings(headrace: CommandLine) -> Settings:
    """Settings of a process in this stack."""
    return headrace.settings()


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the stack's API."""
    with httpx.Client(base_url=settings.api_url, timeout=90, trust_env=False, verify=PLAIN) as client:
        yield client
