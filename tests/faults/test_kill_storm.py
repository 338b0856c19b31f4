"""kill -9 of anything, every few seconds, under load: every store ends as the oracle says."""

import random
import time
from pathlib import Path

import httpx

from runtime.settings import Settings
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.reads import verify_reads
from tests.faults.scale import scale
from tests.faults.supervision import Supervision
from tests.faults.verify import read_oracle, verify, wait_until_settled
from tests.faults.workload import Workload
from tests.processes import WORKERS, Pipeline
from tests.servers.contract import Servers

SEED = 20_260


def test_nothing_is_lost_whatever_is_killed(servers: Servers, pipeline_settings: Settings, tmp_path: Path) -> None:
    size, chance = scale(), random.Random(SEED)
    settings = pipeline_settings
    customers = size.records // 10
    records = Workload(size.records, customers, SEED)
    per_second = size.records / (size.kills * size.kill_every_seconds)
    killed: list[str] = []
    last_kill = 0.0
    with Pipeline(settings, tmp_path, (*WORKERS, "api")) as pipeline, Supervision(pipeline, servers) as supervision:
        with load(settings, records, per_second) as running:
            # Each thing once, then whatever chance says.
            due = chance.sample(supervision.victims, len(supervision.victims))
            while len(killed) < size.kills or running.is_running():
                if len(killed) < size.kills:
                    candidates = [name for name in due if name in supervision.victims] or supervision.victims
                    victim = candidates[0] if due else chance.choice(candidates)
                    if victim in due:
                        due.remove(victim)
                    supervision.kill(victim)
                    killed.append(victim)
                    last_kill = time.monotonic()
                read_some(pipeline["api"].url, chance, customers)
                time.sleep(size.kill_every_seconds)
            published = running.finish()
        supervision.wait_until_all_run()
        wait_until_settled(settings, within=600)
        recovery = time.monotonic() - last_kill
        answers = verify_reads(pipeline["api"].url, read_oracle(settings))
        verdict = verify(settings)
    assert verdict.records == published == size.records
    assert (verdict.lost, verdict.double) == (0, 0)
    assert len(killed) >= size.kills
    assert set(killed) >= {*WORKERS, "api", "kafka", "postgres", "elasticsearch", "redis"}
    assert sum(answers.values()) == len(verdict.oracle.latest)
    note = f"the rest of the load included; {len(supervision.crashes)} processes ended by themselves"
    fault = "kill -9 of any process or server"
    record_figure(Figure(fault, len(killed), published, verdict.lost, verdict.double, recovery, note))


def read_some(url: str, chance: random.Random, customers: int) -> None:
    """Reads that fill the cache; the API may be down."""
    with httpx.Client(base_url=url, timeout=5, trust_env=False) as client:
        for _ in range(100):
            try:
                client.get(f"/api/customers/C{chance.randrange(customers):06}")
            except httpx.TransportError:
                return
