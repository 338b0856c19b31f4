"""Short forms of the benchmarks: each runs, and no stage has become half as fast as benchmarks/results.json says.

By CPU per record, ours against the bare loop's of the same minute: other work on the machine changes wall time at will.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import RESULTS, read
from tests.e2e.command_line import CommandLine
from tests.processes import PROJECT

SHORT = {
    "faust_stage": ("--records", "20000", "--stock-records", "1000", "--rounds", "1"),
    "postgres_sink": ("--records", "20000", "--rounds", "1"),
    "command_line": ("--rounds", "1"),
}
AGAINST = {
    "faust_stage": [("ours", "bare")],
    "postgres_sink": [
        ("sink, Kafka to insert", "bare loop, Kafka to COPY"),
        ("sink, Kafka to update", "bare loop, Kafka to COPY"),
    ],
    "command_line": [("headrace --help", "bare interpreter")],
}
"""Ours and what it is measured against, by the names of their rows."""

HALF = 2.0


@pytest.mark.parametrize("benchmark", SHORT)
def test_it_runs_and_nothing_has_become_half_as_fast(benchmark: str, headrace: CommandLine, tmp_path: Path) -> None:
    now = measured(benchmark, headrace, tmp_path / "results.json")
    known = read(RESULTS)["benchmarks"].get(benchmark)
    for ours, other in AGAINST[benchmark]:
        assert cost(now, ours) > 0
        assert not is_half_as_fast(now, known, ours, other), (now["rows"], known and known["rows"])


def test_half_as_fast_is_found_and_less_is_forgiven() -> None:
    def figures(ours: float, bare: float) -> dict[str, Any]:
        return {"rows": {"ours": {"cpu_us": {"median": ours}}, "bare": {"cpu_us": {"median": bare}}}}

    known = figures(15, 17)
    assert not is_half_as_fast(figures(29, 17), known, "ours", "bare")
    assert is_half_as_fast(figures(31, 17), known, "ours", "bare")
    assert not is_half_as_fast(figures(60, 68), known, "ours", "bare"), "the machine is slower, not we"
    assert not is_half_as_fast(figures(31, 17), None, "ours", "bare"), "nothing is known yet"


def is_half_as_fast(now: dict[str, Any], known: dict[str, Any] | None, ours: str, other: str) -> bool:
    """True if ours costs more than twice as much of the other's cost as it is known to."""
    if known is None:
        return False
    return cost(now, ours) / cost(now, other) > HALF * cost(known, ours) / cost(known, other)


def cost(figures: dict[str, Any], name: str) -> float:
    """CPU that a candidate takes: µs a record, or seconds a call."""
    row = figures["rows"][name]
    return float(row["cpu_us"]["median"] if "cpu_us" in row else row["cpu_s"])


def measured(benchmark: str, headrace: CommandLine, results: Path) -> dict[str, Any]:
    """What the short form keeps. A target that it misses, on a machine that others use, is not what is tested."""
    words = [sys.executable, "-m", f"benchmarks.{benchmark}", *SHORT[benchmark], "--results", str(results)]
    done = subprocess.run(
        words, cwd=PROJECT, env=headrace.environment(), capture_output=True, text=True, timeout=600, check=False
    )
    assert results.exists(), done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(results.read_text())["benchmarks"][benchmark]
    return figures
