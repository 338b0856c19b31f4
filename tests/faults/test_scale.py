"""One worker, three, one again, under load."""

import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka.admin import AdminClient

from runtime.kafka.clients import QUIET
from runtime.settings import Settings
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import ENDLESS, Workload
from tests.processes import Pipeline, Process
from tests.waiting import eventually

PER_SECOND = 2_000
GROUPS = {"normalizer": "normalizer", "sink postgres": "sink-postgres"}


def test_workers_come_and_go_and_nothing_is_lost(pipeline_settings: Settings, tmp_path: Path) -> None:
    settings = pipeline_settings
    records = Workload(ENDLESS, 2_000, seed=4)
    more = [
        Process(role, settings, tmp_path / f"{group}-{number}.log", number)
        for role, group in GROUPS.items()
        for number in (1, 2)
    ]
    with Pipeline(settings, tmp_path):
        try:
            with load(settings, records, PER_SECOND, transactions=True) as running:
                for process in more:
                    process.start()
                for process in more:
                    process.wait_until_healthy()
                for group in GROUPS.values():
                    eventually(has_members(settings, group, 3), what=f"three share the work of {group}")
                at_three = running.published
                eventually(lambda: running.published > at_three + 2 * PER_SECOND, what="the three have work")
                for process in more:
                    assert process.stop() == 0
                for group in GROUPS.values():
                    eventually(has_members(settings, group, 1), what=f"one is left in {group}")
                ended = time.monotonic()
                published = running.stop()
            wait_until_settled(settings)
            recovery = time.monotonic() - ended
        finally:
            for process in more:
                process.stop()
        verdict = verify(settings)
    assert verdict.records == published
    assert (verdict.lost, verdict.double) == (0, 0)
    fault = "1 to 3 to 1 normalizers and Postgres sinks"
    record_figure(Figure(fault, 1, published, verdict.lost, verdict.double, recovery))


def has_members(settings: Settings, group: str, number: int) -> Callable[[], bool]:
    """True once the consumer group has so many members."""

    def ask() -> bool:
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})
        name = settings.named(group)
        return len(admin.describe_consumer_groups([name], request_timeout=10)[name].result().members) == number

    return ask
