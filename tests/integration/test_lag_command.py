"""`headrace lag` as people and scripts call it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from runtime.settings import Settings
from tests.consumer_groups import commit, produce
from tests.processes import PROJECT, environment_of
from tests.waiting import eventually


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`headrace lag` with these arguments, on these settings."""
    environment = os.environ | environment_of(settings)
    words = [sys.executable, "-m", "cli", "lag", *arguments]
    return subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_lag_is_told_to_people_and_scripts(pipeline_settings: Settings) -> None:
    named = pipeline_settings.named
    produce(pipeline_settings, named("orders.raw"), 0, 4)
    commit(pipeline_settings, named("normalizer"), {(named("orders.raw"), 0): 1})
    commit(pipeline_settings, named("stranger"), {(named("orders.raw"), 0): 2})

    shown = command(pipeline_settings)
    first, second, *rest = shown.stdout.splitlines()
    assert first.startswith("NO CONSUMER  All of ours: 7 wait, the oldest for ")
    assert "the monitor is not running" in second
    assert named("stranger") not in shown.stdout, "others are summed up"
    assert "groups of others" in rest[-1]
    assert named("stranger") in command(pipeline_settings, "--all").stdout

    rows = json.loads(command(pipeline_settings, "--json").stdout)
    assert sum(row["lag"] for row in rows) == 7
    assert {row["verdict"] for row in rows} == {"OK", "NO CONSUMER"}
    place = named("normalizer"), named("orders.raw"), 0
    [one] = [row for row in rows if (row["group"], row["topic"], row["partition"]) == place]
    expected = {"committed": 1, "end": 4, "lag": 3, "waiting": 3, "exact": True, "held": 0}
    assert {name: one[name] for name in expected} == expected

    group = command(pipeline_settings, "normalizer")
    assert group.stdout.startswith(f"NO CONSUMER  {named('normalizer')} (empty): 3 wait")
    assert "COMMITTED" in group.stdout


def test_scripts_learn_by_the_exit_code(pipeline_settings: Settings) -> None:
    named = pipeline_settings.named
    assert command(pipeline_settings, "--fail-over", "0", "--fail-status", "WARN").returncode == 0
    produce(pipeline_settings, named("orders.raw"), 0, 4)
    assert command(pipeline_settings, "--fail-over", "4").returncode == 0
    over = command(pipeline_settings, "--fail-over", "3")
    assert (over.returncode, over.stderr) == (1, "")
    assert "NO CONSUMER" in over.stdout, "what is wrong is shown"
    assert command(pipeline_settings, "--fail-status", "no-consumer", "--json").returncode == 1
    assert command(pipeline_settings, "sink-postgres", "--fail-status", "STALL").returncode == 0

    wrong = command(pipeline_settings, "--fail-status", "SLOW")
    assert wrong.returncode == 2
    assert "'SLOW'" in wrong.stderr
    assert "STALL" in wrong.stderr
    unknown = command(pipeline_settings, "normaliser")
    assert unknown.returncode == 1
    assert named("normalizer") in unknown.stderr


def test_watching_goes_on_until_it_is_interrupted(pipeline_settings: Settings, tmp_path: Path) -> None:
    output = tmp_path / "watched"
    with output.open("w") as file:
        words = [sys.executable, "-m", "cli", "lag", "--watch", "--interval", "0.2"]
        environment = os.environ | environment_of(pipeline_settings) | {"FORCE_COLOR": "1", "TERM": "xterm"}
        process = subprocess.Popen(words, cwd=PROJECT, env=environment, stdout=file, stderr=file)
        try:
            eventually(lambda: "All of ours: 0 wait" in output.read_text(), what="the lag is shown")
            produce(pipeline_settings, pipeline_settings.named("orders.raw"), 0, 4)
            eventually(lambda: "All of ours: 8 wait" in output.read_text(), what="the change is shown")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in output.read_text()
