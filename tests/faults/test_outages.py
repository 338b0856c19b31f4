"""A server is away for a minute, under load: every process waits in its place, reads go on, and nothing is lost."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from runtime.settings import Settings
from tests.faults.figures import Figure, record_figure
from tests.faults.load import Load, load
from tests.faults.scale import scale
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import ENDLESS, Sent, Workload, customer, encoded
from tests.processes import WORKERS, Pipeline
from tests.servers.contract import ServerName, Servers
from tests.waiting import eventually

PER_SECOND = 500
LINES_A_PROCESS = 12
"""Events that a process may log while one server goes and comes back: one per change of state, not per try."""

QUIET_KEYS = [f"Q{number:03}" for number in range(50)]
"""Customers that are cached when the outage begins and do not change during it."""


class Reads:
    """Asks the API for cached records, for other records and for a search, and counts what it answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="reads")
        self.answers: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()
        self._thread.join()

    def count(self) -> int:
        """All answers so far."""
        return sum(self.answers.values())

    def _read(self) -> None:
        turn = 0
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self._stopping.wait(0.02):
                turn += 1
                cached = client.get(f"/api/customers/{QUIET_KEYS[turn % len(QUIET_KEYS)]}")
                self.answers[f"cached {cached.status_code} {cached.headers.get('x-cache', '-')}"] += 1
                other = client.get(f"/api/customers/C{turn % 500:06}")
                self.answers[f"other {other.status_code if other.status_code >= 500 else 'answered'}"] += 1
                found = client.get("/search", params={"q": "Ada"})
                backend = found.json()["backend"] if found.is_success else str(found.status_code)
                self.answers[f"search {backend}"] += 1


@contextmanager
def reading(url: str) -> Iterator[Reads]:
    """Readers for as long as the block runs."""
    reads = Reads(url)
    reads.start()
    try:
        yield reads
    finally:
        reads.stop()


def expected(server: ServerName, answers: Counter[str]) -> None:
    """Answers that readers must have got while this server was away."""
    if server == "redis":
        assert answers["cached 200 bypass"] > 10, answers
    else:
        # From the cache, whatever else is down.
        assert answers["cached 200 hit"] > 10, answers
    assert not [kind for kind in answers if kind.startswith("cached 5")], answers
    if server == "postgres":
        assert answers["other 503"] > 0, answers
    else:
        assert not [kind for kind in answers if kind.startswith("other 5")], answers
    if server == "elasticsearch":
        assert answers["search postgres"] > 10, answers
    elif server != "postgres":
        assert answers["search elasticsearch"] > 10, answers


@pytest.mark.parametrize("server", ["postgres", "elasticsearch", "redis", "kafka"])
def test_while_a_server_is_away_records_wait_and_reads_go_on(
    server: ServerName, servers: Servers, pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    seconds = scale().outage_seconds * (2 if server == "elasticsearch" else 1)
    with Pipeline(settings, tmp_path, (*WORKERS, "api")) as pipeline:
        url = pipeline["api"].url
        with load(settings, quiet_customers(), per_second=1e6) as first:
            quiet = first.finish()
        wait_until_settled(settings)
        warm(url)
        pids = {role: process.pid for role, process in pipeline.processes.items()}
        with (
            load(settings, Workload(ENDLESS, 500, seed=7), PER_SECOND, transactions=True) as running,
            reading(url) as reads,
        ):
            eventually(lambda: running.published > PER_SECOND and reads.count() > 100, what="load and reads are going")
            lines = {role: process.log_lines() for role, process in pipeline.processes.items()}
            servers.stop(server)
            try:
                reads.answers.clear()
                wait(seconds, running, server)
                eventually(lambda: reads.count() > 100, what="a busy machine has read often enough", within=120)
                during = Counter(reads.answers)
            finally:
                servers.start(server)
            back = time.monotonic()
            published = running.stop()
            wait_until_settled(settings)
            recovery = time.monotonic() - back
        logged = {role: process.log_lines() - lines[role] for role, process in pipeline.processes.items()}
        chatty = {role: pipeline[role].log_tail(40) for role, number in logged.items() if number > LINES_A_PROCESS}
        assert {role: process.pid for role, process in pipeline.processes.items()} == pids
        assert {role: process.exit_code for role, process in pipeline.processes.items()} == dict.fromkeys(pids)
        verdict = verify(settings)
    assert verdict.records == published + quiet
    assert (verdict.lost, verdict.double) == (0, 0)
    expected(server, during)
    assert not chatty, chatty
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(during.items()))
    fault = f"{server} away for {seconds:.0f} s"
    record_figure(Figure(fault, 1, published, verdict.lost, verdict.double, recovery, told))


def quiet_customers() -> list[Sent]:
    """Those that are cached and left alone."""
    return [Sent(key.encode(), encoded(customer(key, 1))) for key in QUIET_KEYS]


def warm(url: str) -> None:
    """Have the API cache them."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        for key in QUIET_KEYS:
            client.get(f"/api/customers/{key}").raise_for_status()
            assert client.get(f"/api/customers/{key}").headers["x-cache"] == "hit"


def wait(seconds: float, running: Load, server: ServerName) -> None:
    """Let the outage last; the producer gets its records off meanwhile, unless Kafka is what is away."""
    before, ends = running.published, time.monotonic() + seconds
    eventually(lambda: time.monotonic() > ends, what="the outage is over", within=seconds + 5)
    if server != "kafka":
        assert running.published > before
