"""The benchmark of the whole, on a running stack: it runs to its end, counts what it sent, and keeps its figures."""

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.command_line import CommandLine
from tests.processes import PROJECT


def test_the_whole_is_measured_and_its_figures_are_kept(headrace: CommandLine, tmp_path: Path) -> None:
    kept = tmp_path / "results.json"
    short = ["--records", "1000", "--rounds", "1", "--rate", "100", "--seconds", "1"]
    words = [sys.executable, "-m", "benchmarks.whole", *short, "--results", str(kept), "--json"]
    done = subprocess.run(
        words, cwd=PROJECT, env=headrace.environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["records"] == 1_000
    assert {"kafka", "postgres", "normalizer", "sink-postgres"} <= figures["cpu_us_per_record_by_process"].keys()
    assert 0 < figures["latency_warm_ms"]["p50"] <= figures["latency_warm_ms"]["p99"]
    assert json.loads(kept.read_text())["ratios"]["whole_records_per_s"] == figures["records_per_second"]
