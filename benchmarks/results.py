"""benchmarks/results.json: what each benchmark measured last, and the figures that are compared from day to day."""

import platform
import time
from pathlib import Path
from typing import Any

import msgspec

RESULTS = Path(__file__).parent / "results.json"

RATIOS = {
    "cached_read_vs_hello": ("reads", "cached_to_hello"),
    "page_vs_hello": ("reads", "page_to_hello"),
    "elasticsearch_vs_ndjson": ("elasticsearch_sink", "sink_to_ndjson"),
    "search_vs_elasticsearch": ("reads", "search_to_elasticsearch"),
    "whole_cpu_us_per_record": ("whole", "cpu_us_per_record"),
    "whole_records_per_s": ("whole", "records_per_second"),
    "latency_p50_ms": ("whole", "latency_warm_ms", "p50"),
    "latency_p99_ms": ("whole", "latency_warm_ms", "p99"),
}
"""Where each figure stands in what its benchmark measured."""


def record(benchmark: str, figures: dict[str, Any], file: Path) -> None:
    """Put what a benchmark measured in place of what it had measured before; those of the others stay."""
    known = msgspec.json.decode(file.read_bytes()) if file.exists() else {"benchmarks": {}}
    measured = known["benchmarks"] | {
        benchmark: {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), **figures}
    }
    ratios = {name: found for name, path in RATIOS.items() if (found := _at(measured, path)) is not None}
    content = {"ratios": ratios, "benchmarks": dict(sorted(measured.items()))}
    file.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def _at(measured: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if name not in measured:
            return None
        measured = measured[name]
    return measured
