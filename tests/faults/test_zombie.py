"""A sink that slept past its session wakes with an old batch in its hands, while another has its partitions."""

import signal
import time
from pathlib import Path

import httpx

from runtime.kafka.clients import SESSION_TIMEOUT_MS
from runtime.settings import Settings
from schemas.topics import topics_read_by
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import ENDLESS, Workload
from tests.processes import Pipeline, Process
from tests.waiting import eventually

PER_SECOND = 2_000
NAPS = 2


def test_a_sink_that_wakes_after_its_session_overwrites_nothing(pipeline_settings: Settings, tmp_path: Path) -> None:
    settings = pipeline_settings
    partitions = settings.topic_partitions * len(topics_read_by("sink-postgres"))
    records = Workload(ENDLESS, 2_000, seed=3)
    with Pipeline(settings, tmp_path) as pipeline:
        sleeper = pipeline["sink postgres"]
        relief = Process("sink postgres", settings, tmp_path / "relief.log", number=1)
        relief.start()
        relief.wait_until_healthy()
        try:
            with load(settings, records, PER_SECOND, transactions=True) as running:
                for _ in range(NAPS):
                    eventually(
                        lambda: 0 < len(assigned(sleeper)) == partitions - len(assigned(relief)),
                        what="the two share the partitions",
                    )
                    sleeper.signal(signal.SIGSTOP)
                    eventually(
                        lambda: len(assigned(relief)) == partitions,
                        what="the other has taken over",
                        within=4 * SESSION_TIMEOUT_MS / 1000,
                    )
                    published = running.published
                    eventually(
                        lambda seen=published: running.published > seen + PER_SECOND,  # type: ignore[misc]
                        what="newer versions are on their way",
                    )
                    sleeper.signal(signal.SIGCONT)
                ended = time.monotonic()
                published = running.stop()
            wait_until_settled(settings)
            recovery = time.monotonic() - ended
            assert sleeper.exit_code is None, sleeper.log_tail()
        finally:
            sleeper.signal(signal.SIGCONT)
            relief.stop()
        verdict = verify(settings)
    assert verdict.records == published
    assert (verdict.lost, verdict.double) == (0, 0)
    fault = "SIGSTOP of the Postgres sink past its session, then SIGCONT"
    record_figure(Figure(fault, NAPS, published, verdict.lost, verdict.double, recovery))


def assigned(process: Process) -> list[str]:
    """The partitions that a sink says it has."""
    found: list[str] = httpx.get(f"{process.url}/health", timeout=5, trust_env=False).json()["assigned"]
    return found
