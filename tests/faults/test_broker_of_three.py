"""One broker of three is killed under load, with the whole pipeline on the cluster."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from local_stack.containers import BROKERS
from local_stack.servers import RunningServers, start_servers
from runtime.kafka.clients import QUIET
from runtime.settings import Settings
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.own_kafka import settings_on
from tests.faults.scale import scale
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import ENDLESS, Workload
from tests.processes import Pipeline
from tests.waiting import eventually

PER_SECOND = 1_000


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    with start_servers(tmp_path_factory.mktemp("cluster"), names={"kafka"}, brokers=3) as running:
        yield running


@pytest.fixture
def clustered(cluster: RunningServers, migrated_settings: Settings) -> Settings:
    return settings_on(cluster, migrated_settings, copies=3)


def test_a_broker_of_three_is_killed_and_nothing_is_lost(
    cluster: RunningServers, clustered: Settings, tmp_path: Path
) -> None:
    records = Workload(ENDLESS, 2_000, seed=5)
    with Pipeline(clustered, tmp_path) as pipeline:
        with load(clustered, records, PER_SECOND) as running:
            for broker in BROKERS[: scale().brokers]:
                before = running.published
                cluster.kill(broker)
                eventually(lambda seen=before: running.published > seen + PER_SECOND, what="two brokers carry on")  # type: ignore[misc]
                cluster.start(broker)
                ended = time.monotonic()
                eventually(lambda: all_in_sync(clustered), what=f"{broker} has caught up")
            published = running.stop()
        wait_until_settled(clustered)
        recovery = time.monotonic() - ended
        verdict = verify(clustered)
        assert [role for role, process in pipeline.processes.items() if process.exit_code is not None] == []
    assert verdict.records == published
    assert (verdict.lost, verdict.double) == (0, 0)
    fault = "kill -9 of one broker of three"
    record_figure(Figure(fault, scale().brokers, published, verdict.lost, verdict.double, recovery))


def all_in_sync(settings: Settings) -> bool:
    """True once every partition has its three replicas in sync."""
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})
    topics = client.list_topics(timeout=10).topics.values()
    ours = [topic for topic in topics if str(topic.topic).startswith(settings.namespace)]
    return all(len(partition.isrs) == 3 for topic in ours for partition in topic.partitions.values())
