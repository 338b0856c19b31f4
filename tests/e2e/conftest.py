"""A whole pipeline per file: every process of ours, on real servers, in a namespace of its own."""

import os
from collections.abc import Iterator

import pytest

from runtime.settings import Settings
from tests.e2e.headrace import Headrace, headrace_of
from tests.processes import WORKERS, Pipeline


@pytest.fixture(scope="package", autouse=True)
def measuring() -> Iterator[dict[str, str]]:
    """Processes are not measured: coverage in each of the hundreds of these tests costs a third of its start.

    What they run is run by processes of other suites too, and those are measured: without these fewer than two lines in
    a hundred are left out. It gives the variable that has a process measured, for those that nobody else runs.
    """
    name = "COVERAGE_PROCESS_CONFIG"
    found = {name: os.environ[name]} if name in os.environ else {}
    with pytest.MonkeyPatch.context() as variables:
        variables.delenv(name, raising=False)
        yield found


@pytest.fixture(scope="module")
def pipeline(shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """All workers, the mock server and the API. The tests of a file share it: use keys and sources of your own."""
    logs = tmp_path_factory.mktemp("pipeline")
    with Pipeline(shared_pipeline_settings, logs, ("mock-server", *WORKERS, "api")) as running:
        yield running


@pytest.fixture
def headrace(pipeline: Pipeline) -> Headrace:
    """Runs a `headrace` command against the pipeline, as a user would."""

    return headrace_of(pipeline.settings, MOCK_URL=pipeline["mock-server"].url)
