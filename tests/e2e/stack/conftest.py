"""One stack of their own for the tests of the command line: `up` once, and whatever they do to it."""

from collections.abc import Iterator

import pytest

from runtime.settings import Settings
from tests.e2e.command_line import CommandLine, running_stack

STALL_SECONDS = 10
"""On a busy machine a worker that is well may leave lag where it is for some seconds while its group rebalances."""


@pytest.fixture(scope="package")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """`headrace` on a running stack that has ingested nothing. A test leaves every process running, one of each.

    Its folder has a name that people give to folders, and that configuration files have other ideas of.
    """
    variables = {"TOPIC_PARTITIONS": "2", "WATCHDOG_STALL_SECONDS": str(STALL_SECONDS), "LOG_FORMAT": "json"}
    with running_stack(tmp_path_factory.mktemp("stack") / "it's 5% ü", variables) as command_line:
        yield command_line


@pytest.fixture(scope="package")
def settings(headrace: CommandLine) -> Settings:
    """Settings of a process in this stack."""
    return headrace.settings()
