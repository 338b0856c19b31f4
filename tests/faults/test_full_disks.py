"""A disk that is really full is an outage that ends by itself once there is room: nothing is lost, nobody blamed."""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from local_stack.server import listens
from local_stack.servers import start_servers
from runtime.settings import Settings
from schemas.registry import dataset_named
from sinks.elasticsearch import ElasticsearchSink
from stores.migrate import migrate
from stores.search_index import alias_name, index_name
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.own_kafka import settings_on
from tests.faults.test_unwilling_postgres import state
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import ENDLESS, Workload
from tests.integration.sink_events import change, publish, running
from tests.processes import Pipeline
from tests.search_index import drop_indices, search_server, settings_of
from tests.waiting import eventually, eventually_async

MEGABYTES = 400
"""Of the small disk: a fresh Postgres takes some 60, and its log of changes 16 a piece."""

PER_SECOND = 500
TRIES_SECONDS = 6.0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own. Where none may be mounted the test fails and says so: nothing else is a full disk."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-disk-"))
    folder.chmod(0o755)  # servers are another user
    options = f"size={MEGABYTES}m,mode=0755"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, f"this test needs to mount a tmpfs, which takes root: {made.stderr}"
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def fill(disk: Path) -> Path:
    """Leave not a byte free; the file to delete for room."""
    ballast = disk / "ballast"
    with ballast.open("wb", 0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


def test_a_postgres_on_a_full_disk_is_waited_for(small_disk: Path, pipeline_settings: Settings, tmp_path: Path) -> None:
    with start_servers(small_disk, {"postgres"}) as servers:
        url = SecretStr(servers.addresses["DATABASE_URL"])
        settings = pipeline_settings.model_copy(update={"database_url": url})
        migrate(settings)
        with Pipeline(settings, tmp_path) as pipeline:
            sink = pipeline["sink postgres"]
            pid = sink.pid
            with load(settings, Workload(ENDLESS, 500, seed=12), PER_SECOND) as running_load:
                eventually(lambda: running_load.published > PER_SECOND, what="the load is going")
                ballast = fill(small_disk)
                try:
                    eventually(lambda: state(sink.url) == "waiting_for_store", what="the sink waits", within=120)
                    over = time.monotonic() + TRIES_SECONDS
                    eventually(lambda: time.monotonic() > over, what="several tries have failed")
                finally:
                    ballast.unlink()
                servers.start("postgres")  # as the supervisor does, should Postgres have ended for want of room
                back = time.monotonic()
                published = running_load.stop()
            wait_until_settled(settings)
            recovery = time.monotonic() - back
            assert (sink.pid, sink.exit_code) == (pid, None)
            verdict = verify(settings)
    assert verdict.records == published
    assert (verdict.lost, verdict.double) == (0, 0)
    record_figure(Figure("Postgres on a full disk", 1, published, verdict.lost, verdict.double, recovery))


def test_a_kafka_whose_log_folder_is_full_is_waited_for(
    small_disk: Path, migrated_settings: Settings, tmp_path: Path
) -> None:
    """The broker ends when it cannot write; whoever restarts it does so until there is room."""
    with start_servers(small_disk, {"kafka"}) as servers:
        settings = settings_on(servers, migrated_settings, copies=1)
        port = int(settings.kafka_bootstrap_servers.rpartition(":")[2])
        with Pipeline(settings, tmp_path):
            with load(settings, Workload(ENDLESS, 500, seed=13), PER_SECOND) as running_load:
                eventually(lambda: running_load.published > PER_SECOND, what="the load is going")
                ballast = fill(small_disk)
                try:
                    eventually(lambda: not listens(port), what="the broker has ended", within=180)
                finally:
                    ballast.unlink()
                servers.start("kafka")  # as the supervisor does
                back = time.monotonic()
                published = running_load.stop()
            wait_until_settled(settings)
            recovery = time.monotonic() - back
            verdict = verify(settings)
    assert verdict.records == published
    assert (verdict.lost, verdict.double) == (0, 0)
    record_figure(Figure("Kafka on a full disk", 1, published, verdict.lost, verdict.double, recovery))


async def test_elasticsearch_beyond_its_flood_stage_is_waited_for_and_frees_its_index_itself(
    pipeline_settings: Settings,
) -> None:
    """The node takes its disk for too full: real marks of free space, that no disk of this machine has."""
    index = index_name(dataset_named("customers"), pipeline_settings)
    alias = alias_name(dataset_named("customers"), pipeline_settings)
    marks = {f"cluster.routing.allocation.disk.watermark.{name}": "100000tb" for name in ("low", "high", "flood_stage")}
    flood = {**marks, "cluster.routing.allocation.disk.threshold_enabled": True, "cluster.info.update.interval": "10s"}
    async with search_server(pipeline_settings) as server:

        async def is_read_only() -> bool:
            found = await settings_of(server, index)
            return bool(found.get("blocks", {}).get("read_only_allow_delete") == "true")

        async def documents() -> int:
            await server.ask("POST", f"/{alias}/_refresh")
            return int((await server.ask("GET", f"/{alias}/_count"))["count"])

        async def is_waiting() -> bool:
            return bool(runner.health()["state"] == "waiting_for_store")

        async def both_are_there() -> bool:
            return await documents() == 2

        store = ElasticsearchSink(pipeline_settings)
        publish(pipeline_settings, "customers.changed", change("C1", 1))
        try:
            async with running(store, pipeline_settings) as runner:
                await eventually_async(documents, what="the first document is there")
                await server.ask("PUT", "/_cluster/settings", {"persistent": flood})
                await eventually_async(is_read_only, what="Elasticsearch has made the index read-only", within=120)
                publish(pipeline_settings, "customers.changed", change("C2", 2))
                await eventually_async(is_waiting, what="the sink waits")
                await server.ask("PUT", "/_cluster/settings", {"persistent": dict.fromkeys(flood)})
                await eventually_async(both_are_there, what="what waited is indexed", within=180)
        finally:
            await server.ask("PUT", "/_cluster/settings", {"persistent": dict.fromkeys(flood)})
            await drop_indices(server, pipeline_settings)
