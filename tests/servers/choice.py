"""The back end of a test run's servers: HEADRACE_TEST_SERVERS=containers|native|opensearch|auto, native unless set."""

import gc
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from requests import RequestException

from tests.servers.contract import Servers
from tests.servers.images import read_images

VARIABLE = "HEADRACE_TEST_SERVERS"
ASK_SECONDS = 15
"""For the daemon's answers: whether a registry has an image is among them."""

SERVERS = ("kafka-in-tests", "postgres", "redis", "elasticsearch")


@dataclass(frozen=True)
class Choice:
    """The back end, and why it is this one."""

    back_end: Literal["containers", "native", "opensearch"]
    reason: str

    def __str__(self) -> str:
        return f"servers: {self.back_end} ({self.reason})"


def choose(environment: Mapping[str, str]) -> Choice:
    """The back end that the variable names. `auto` asks Docker, up to ASK_SECONDS. Raises pytest.UsageError."""
    asked = environment.get(VARIABLE) or "native"
    if asked == "containers":
        return Choice("containers", f"{VARIABLE}=containers")
    if asked == "opensearch":
        return Choice("opensearch", "native, with OpenSearch in the place of Elasticsearch")
    if asked == "native":
        return Choice("native", f"{VARIABLE}=containers takes them from Docker")
    if asked != "auto":
        raise pytest.UsageError(f"{VARIABLE}={asked!r}: expected containers, native, opensearch or auto")
    with warnings.catch_warnings():
        # A client that finds no daemon leaves its socket to the collector, which would blame a later test for it.
        warnings.simplefilter("ignore", ResourceWarning)
        without = _why_no_containers()
        gc.collect()
    return Choice("native", without) if without else Choice("containers", "auto: the daemon answers and has the images")


@cache
def choice() -> Choice:
    """That of this test run."""
    return choose(os.environ)


def start_chosen() -> Servers:
    """Start the servers of this test run; blocking, some ten seconds. They must be closed."""
    if choice().back_end == "containers":
        from tests.servers.containers import ContainerServers

        return ContainerServers()
    from tests.servers.native import NativeServers

    home = Path(tempfile.mkdtemp(prefix="headrace-tests-"))
    return NativeServers(home, opensearch=choice().back_end == "opensearch")


def _why_no_containers() -> str | None:
    images = read_images()
    client = None
    try:
        client = docker.from_env(timeout=ASK_SECONDS)
        client.ping()
        for image in (images[server] for server in SERVERS):
            try:
                client.images.get(image)
            except ImageNotFound:
                client.images.get_registry_data(image)  # raises where it cannot be pulled
    except (DockerException, RequestException, OSError) as error:
        return f"auto: no containers, {' '.join(str(error).split())[:120]}"
    finally:
        if client is not None:
            client.close()
    return None
