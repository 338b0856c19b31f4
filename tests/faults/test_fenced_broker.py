"""The only broker is fenced by its controller every other second under load: no group has a coordinator for moments."""

import time
from pathlib import Path

from local_stack.servers import start_servers
from runtime.settings import Settings
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.own_kafka import settings_on
from tests.faults.scale import scale
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import ENDLESS, Workload
from tests.processes import Pipeline
from tests.servers.restless import FENCED_EVERY_SECONDS, restless

PER_SECOND = 2_000


def test_a_broker_is_fenced_again_and_again_and_nobody_stands_still(
    migrated_settings: Settings, tmp_path: Path
) -> None:
    seconds = 2 * scale().outage_seconds
    records = Workload(ENDLESS, 2_000, seed=8)
    with start_servers(tmp_path / "kafka", names={"kafka"}) as kafka:
        settings = settings_on(kafka, migrated_settings, copies=1)
        with Pipeline(settings, tmp_path) as pipeline:
            with restless(kafka), load(settings, records, PER_SECOND) as running:
                time.sleep(seconds)
                ended = time.monotonic()
                published = running.stop()
                wait_until_settled(settings)
                recovery = time.monotonic() - ended
            wait_until_settled(settings)  # after the restart of the broker
            verdict = verify(settings)
            assert [role for role, process in pipeline.processes.items() if process.exit_code is not None] == []
    assert verdict.records == published
    assert (verdict.lost, verdict.double) == (0, 0)
    fences = int(seconds / FENCED_EVERY_SECONDS)
    record_figure(Figure("broker fenced by its controller", fences, published, verdict.lost, verdict.double, recovery))
