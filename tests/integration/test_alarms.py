"""The role `monitor` tells of what goes wrong and of its end, by a real webhook; and shows the lag as metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from prometheus_client import parser

from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from tests.integration.alarm_receiver import Receiver
from tests.processes import PROJECT, Process, environment_of
from tests.waiting import eventually

RULES = """
[targets.team]
kind = "json"
url = "${TEAM_HOOK}"

[rules.stopped]
when = "verdict"
groups = ["normalizer"]
for_seconds = 1
clear_seconds = 1
severity = "critical"

[rules.behind]
when = "lag_seconds"
groups = ["sink-redis"]
above = 1

[rules.run_failed]
when = "run_failed"

[rules.lost]
when = "audit_hole"

[rules.failing]
when = "failure_rate"
above_percent = 50

[rules.drift]
when = "drift"

[rules.restarted]
when = "watchdog_restarts"
"""
GONE = '[sources.gone]\nkind = "api"\nurl = "http://127.0.0.1:9/x"\ndataset = "records"\nretries = 0\n'
WAITING = 7


def headrace(settings: Settings, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=PROJECT,
        env=os.environ | environment_of(settings) | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def produce(settings: Settings, count: int) -> None:
    producer = Producer(producer_config(settings))
    for number in range(count):
        value = {"customer_id": f"C{number}", "first_name": "A", "last_name": "B", "email": f"c{number}@example.org"}
        producer.produce(settings.named("customers.raw"), json.dumps(value).encode(), f"C{number}".encode(), 1)
    assert producer.flush(20) == 0


def health(process: Process) -> dict[str, Any]:
    answer: dict[str, Any] = process.get("/health", timeout=5).json()
    return answer


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "alarms.toml"
    file.write_text(RULES)
    return file


def test_a_stopped_worker_and_a_failed_run_are_told_once_and_their_end_too(
    pipeline_settings: Settings, tmp_path: Path, rules: Path
) -> None:
    settings = pipeline_settings
    sources = tmp_path / "sources.toml"
    sources.write_text(GONE)
    produce(settings, WAITING)
    with Receiver([500]) as team:
        variables = {"ALARMS_FILE": str(rules), "TEAM_HOOK": f"{team.url}/hook"}
        monitor = Process("monitor", settings, tmp_path / "monitor.log")
        monitor.environment |= variables
        normalizer = Process("normalizer", settings, tmp_path / "normalizer.log")
        try:
            monitor.start()
            monitor.wait_until_healthy()
            eventually(lambda: ("opened", "stopped", "normalizer") in team.events(), what="it is told", within=60)
            opened = next(one for one in team.bodies if one["alarm"]["rule"] == "stopped")
            assert opened["alarm"]["value"] == "NO CONSUMER"
            assert f"{WAITING} wait" in opened["alarm"]["text"]
            eventually(lambda: len(team.bodies) >= 2, what="it is sent again, since it was not taken")
            assert team.bodies[0]["event_id"] == team.bodies[1]["event_id"]

            lag = lag_samples(monitor)
            place = {"topic": settings.named("customers.raw"), "partition": "1"}
            group = settings.named("normalizer")
            exporter = {"consumergroup": group, "group": group, **place}
            assert lag["kafka_consumergroup_lag", frozenset(exporter.items())] == WAITING
            theirs = {"cluster_name": "kafka", "group": group}
            assert lag["kafka_consumergroup_group_lag", frozenset({**theirs, **place}.items())] == WAITING
            assert lag["kafka_consumergroup_group_sum_lag", frozenset(theirs.items())] == WAITING
            assert lag["kafka_consumergroup_group_lag_seconds", frozenset({**theirs, **place}.items())] > 0
            assert lag["kafka_topic_partition_current_offset", frozenset(place.items())] == WAITING
            assert lag["headrace_group_verdict", frozenset({"group": group, "verdict": "NO CONSUMER"}.items())] == 1
            assert lag["headrace_alarms_open", frozenset({"rule": "stopped", "severity": "critical"}.items())] == 1
            assert lag["headrace_kafka_answers", frozenset()] == 1

            assert headrace(settings, "run", "gone", "--sources", str(sources)).returncode != 0
            eventually(lambda: ("opened", "run_failed", "gone") in team.events(), what="the run is told", within=60)

            # What is open goes on with the next monitor, and is not told again.
            eventually(lambda: health(monitor)["alarms"]["open"] == 2, what="both are open")
            monitor.kill()
            monitor.start()
            eventually(lambda: health(monitor)["alarms"]["open"] == 2, what="both are still open", within=60)
            shown = json.loads(headrace(settings, "alarms", "--json", **variables).stdout)
            assert {(one["rule"], one["subject"]) for one in shown["open"]} == {
                ("stopped", "normalizer"),
                ("run_failed", "gone"),
            }
            assert "7 wait" in headrace(settings, "alarms", **variables).stdout.replace("\n", " ")

            normalizer.start()
            eventually(lambda: ("closed", "stopped", "normalizer") in team.events(), what="its end", within=90)
            opened_events = [one["event_id"] for one in team.bodies if one["event"] == "opened"]
            assert len(set(opened_events)) == 2
            [closed] = [one for one in team.bodies if one["event"] == "closed"]
            assert closed["alarm"]["id"] == opened["alarm"]["id"]
            shown = json.loads(headrace(settings, "alarms", "--json", **variables).stdout)
            assert [one["rule"] for one in shown["open"]] == ["run_failed"]
            assert [one["id"] for one in shown["closed"]] == [opened["alarm"]["id"]]
        finally:
            normalizer.stop()
            assert monitor.stop() == 0, monitor.log_tail()
    log = (tmp_path / "monitor.log").read_text()
    assert len(monitor.logged("alarm_opened")) == 2
    assert len(monitor.logged("alarm_closed")) == 1
    assert team.url not in log


def lag_samples(monitor: Process) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = monitor.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_wrong_file_is_told_and_harms_nothing_and_is_taken_once_it_is_right(
    pipeline_settings: Settings, tmp_path: Path, rules: Path
) -> None:
    rules.write_text("[rules.a]\nwhen = 'late'\n")
    monitor = Process("monitor", pipeline_settings, tmp_path / "monitor.log")
    monitor.environment |= {"ALARMS_FILE": str(rules), "TEAM_HOOK": "http://127.0.0.1:9/"}
    try:
        monitor.start()
        monitor.wait_until_healthy()
        eventually(lambda: health(monitor)["status"] == "degraded", what="it is shown")
        assert "[rules.a] when = 'late'" in health(monitor)["degraded"]
        rules.write_text(RULES)
        eventually(lambda: health(monitor)["alarms"]["rules"] == 7, what="the rules are taken", within=30)
        assert health(monitor)["status"] == "healthy"
    finally:
        assert monitor.stop() == 0


def test_the_test_event_reaches_every_target_and_says_who_did_not_take_it(tmp_path: Path) -> None:
    settings = Settings(headrace_home=tmp_path)
    file = tmp_path / "alarms.toml"
    with Receiver() as well, Receiver([404]) as ill:
        file.write_text(
            f'[targets.well]\nkind = "slack"\nurl = "{well.url}"\n[targets.ill]\nkind = "json"\nurl = "{ill.url}"\n'
        )
        done = headrace(settings, "alarms", "test", "--json", ALARMS_FILE=str(file))
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"well": None, "ill": "it answers 404"}
    assert "a test of this target" in well.bodies[0]["text"]
    assert ill.bodies[0]["event"] == "test"
    file.write_text("[targets.ill]\nkind = 'json'\n")
    wrong = headrace(settings, "alarms", "test", ALARMS_FILE=str(file))
    assert (wrong.returncode, "url is missing" in wrong.stderr) == (2, True)
