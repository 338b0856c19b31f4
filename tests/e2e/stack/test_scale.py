"""A stack of its own under load: more workers, fewer workers, and one that freezes."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from local_stack.process_status import ProcessStatus
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from monitoring.lag import read_lag
from runtime.kafka.clients import QUIET, producer_config
from runtime.settings import Settings
from tests.e2e.command_line import CommandLine
from tests.e2e.stores import value
from tests.waiting import eventually


def test_workers_come_and_go_under_load_and_every_record_is_stored_once(
    headrace: CommandLine, settings: Settings
) -> None:
    before = value(settings, "SELECT coalesce(sum(inserted), 0) FROM coverage")
    with load(settings, "S") as sent:
        done = json.loads(headrace("scale", "normalizer=3", "postgres=2", "--json").stdout)
        assert done["counts"] == {"normalizer": 3, "sink-postgres": 2}
        assert done["added"] == ["normalizer-1", "normalizer-2", "sink-postgres-1"]
        assert [warning.partition(":")[0] for warning in done["warnings"]] == ["1 of 3 normalizer workers will idle"]
        rows = eventually(lambda: all_running(headrace), what="all instances answer")
        assert sum(name.startswith(("normalizer", "sink-postgres")) for name in rows) == 5
        assert len({row.port for row in rows.values()}) == len(rows)
        eventually(lambda: members(settings, "normalizer") == 3, what="three normalizers share the work")

        down = json.loads(headrace("scale", "normalizer=1", "sink-postgres=1", "--json").stdout)
        assert down["removed"] == ["normalizer-1", "normalizer-2", "sink-postgres-1"]
        assert down["warnings"] == []
        assert "normalizer-1" not in headrace.standings()
    eventually(lambda: stored(settings, "S") == sent(), what="every record is stored", within=60)
    assert value(settings, "SELECT sum(inserted) FROM coverage") - before == sent()


def test_a_removed_worker_leaves_its_group_at_once(headrace: CommandLine, settings: Settings) -> None:
    headrace("scale", "landing=2")
    eventually(lambda: members(settings, "sink-landing") == 2, what="both are in the group")
    headrace("scale", "landing=1")
    # A static member that had merely stopped would stay until its session ends, 10 s later.
    eventually(lambda: members(settings, "sink-landing") == 1, what="the removed one is out", within=4)


def test_up_starts_as_many_workers_as_scale_asked_for_and_keeps_the_number_of_brokers(headrace: CommandLine) -> None:
    headrace("scale", "redis=2")
    assert "healthy" in next(
        line for line in headrace("up", "--no-ingest").stdout.splitlines() if line.startswith("sink-redis-1")
    )
    refused = headrace("up", "--no-ingest", "--brokers", "3", expect=1).stderr
    assert "laid out for 1 broker, not for 3" in refused
    headrace("scale", "redis=1")


@pytest.mark.parametrize(
    ("word", "told"),
    [("normalizer=0", "Give 1 to 100"), ("api=2", "can't be scaled")],
)
def test_scaling_to_zero_and_scaling_a_single_process_are_refused(headrace: CommandLine, word: str, told: str) -> None:
    assert told in headrace("scale", word, expect=1).stderr


def test_restart_restarts_the_named_process_only(headrace: CommandLine) -> None:
    before = headrace.standings()
    assert "Restarted: normalizer." in headrace("restart", "normalizer").stdout
    after = eventually(lambda: all_running(headrace), what="it runs again")
    assert [name for name in after if after[name].pid != before[name].pid] == ["normalizer"]
    refused = headrace("restart", "normaliser", expect=1)
    assert "sink-postgres" in refused.stderr, "the known names"


def test_up_restarts_only_the_processes_that_read_a_changed_setting(headrace: CommandLine) -> None:
    headrace("up", "--no-ingest")
    before = headrace.standings()
    changed = CommandLine(headrace.home, {**headrace.variables, "CORS_ORIGINS": "https://example.org"})
    assert "CORS_ORIGINS changed" in changed("up", "--no-ingest").stdout
    after = eventually(lambda: all_running(headrace), what="it runs again")
    assert [name for name in after if after[name].pid != before[name].pid] == ["api"]
    url = f"http://127.0.0.1:{after['api'].port}/status"
    answer = httpx.get(url, headers={"Origin": "https://example.org"}, trust_env=False)
    assert answer.headers["access-control-allow-origin"] == "https://example.org"


def test_a_frozen_normalizer_is_restarted_and_the_load_completes(headrace: CommandLine, settings: Settings) -> None:
    before = headrace.standings()["normalizer"]
    with load(settings, "W") as sent:
        eventually(lambda: stored(settings, "W") > 0, what="the load is under way")
        headrace.process("normalizer").suspend()
    eventually(lambda: headrace.standings()["normalizer"].watchdog_restarts == 1, what="it is restarted")
    eventually(lambda: stored(settings, "W") == sent(), what="every record is stored")
    after = headrace.standings()
    assert after["normalizer"].pid != before.pid
    assert after["normalizer"].restarts >= 1
    assert {name for name, row in after.items() if row.watchdog_restarts} == {"normalizer"}


def test_a_sink_that_waits_for_its_store_is_left_alone(headrace: CommandLine, settings: Settings) -> None:
    state = StateFolder.at(headrace.home)
    supervisor = Supervisor(state)
    before = headrace.standings()["sink-redis"]
    supervisor.stop_programs(["redis"])
    try:
        with load(settings, "R"):
            spared = '"group":"sink-redis"'
            eventually(lambda: spared in stall_explained(state), what="the watchdog sees why nothing is committed")
    finally:
        supervisor.start_programs(["redis"])
    eventually(lambda: lag(settings, "sink-redis") == 0, what="the sink goes on by itself")
    after = headrace.standings()["sink-redis"]
    assert (after.pid, after.watchdog_restarts) == (before.pid, 0)


@contextmanager
def load(settings: Settings, prefix: str) -> Iterator[Callable[[], int]]:
    """Some 2,000 customers a second while the block runs; what it yields tells how many were confirmed."""
    stop = threading.Event()
    producer = Producer(producer_config(settings))
    sent = 0

    def send() -> None:
        nonlocal sent
        while not stop.is_set():
            for _ in range(100):
                key = f"{prefix}{sent:07}"
                record = {"customer_id": key, "first_name": "Lo", "last_name": "Ad", "email": f"{key}@example.org"}
                producer.produce(settings.named("customers.raw"), json.dumps(record), key)
                sent += 1
            producer.poll(0)
            stop.wait(0.05)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lambda: sent
    finally:
        stop.set()
        thread.join()
        assert producer.flush(30) == 0


def all_running(headrace: CommandLine) -> dict[str, ProcessStatus]:
    """States of all processes once each of them answers: a busy one may miss the few seconds that it is given."""
    found = headrace.standings()
    return found if all(one.is_well for one in found.values()) else {}


def stored(settings: Settings, prefix: str) -> int:
    return int(value(settings, "SELECT count(*) FROM customers WHERE customer_id LIKE $1", f"{prefix}%"))


def members(settings: Settings, group: str) -> int:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})
    answer = admin.describe_consumer_groups([settings.named(group)], request_timeout=10)
    return len(answer[settings.named(group)].result().members)


def lag(settings: Settings, group: str) -> int:
    return sum(row.lag for row in asyncio.run(read_lag(settings)) if row.group == settings.named(group))


def stall_explained(state: StateFolder) -> str:
    lines = state.log("watchdog").read_text().splitlines()
    return "\n".join(line.replace(" ", "") for line in lines if "stall_explained" in line)
