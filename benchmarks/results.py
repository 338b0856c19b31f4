"""benchmarks/results.json: what each benchmark measured last, and the figures that are compared from day to day."""

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

RESULTS = Path(__file__).parent / "results.json"

RATIOS = {
    "faust_stage_vs_bare_loop": ("faust_stage", "ours_to_bare"),
    "faust_stage_vs_stock_faust": ("faust_stage", "ours_to_stock"),
    "faust_stage_vs_kafka_streams": ("peers_normalize", "ours_to_others", "Kafka Streams"),
    "postgres_insert_vs_loop": ("postgres_sink", "insert_to_loop"),
    "postgres_update_vs_loop": ("postgres_sink", "update_to_loop"),
    "postgres_insert_vs_connect": ("peers_store", "ours_to_others", "Kafka Connect, Debezium JDBC"),
    "elasticsearch_vs_ndjson": ("elasticsearch_sink", "sink_to_ndjson"),
    "csv_vs_bare_produce": ("csv_source", "source_to_produce"),
    "cached_read_vs_hello": ("reads", "cached_to_hello"),
    "page_vs_hello": ("reads", "page_to_hello"),
    "search_vs_elasticsearch": ("reads", "search_to_elasticsearch"),
    "whole_cpu_us_per_record": ("whole", "cpu_us_per_record"),
    "whole_records_per_s": ("whole", "records_per_second"),
    "whole_rate_vs_peers": ("peers_whole", "ours_to_others", "Kafka Streams + Kafka Connect"),
    "whole_cpu_vs_peers": ("peers_whole", "cpu_of_others", "Kafka Streams + Kafka Connect"),
    "latency_p50_ms": ("whole", "latency_warm_ms", "p50"),
    "latency_p99_ms": ("whole", "latency_warm_ms", "p99"),
    "help_seconds": ("command_line", "help_seconds"),
}
"""Where each figure stands in what its benchmark measured."""


def spread(values: Iterable[float], digits: int = 1) -> dict[str, float]:
    """The median of the rounds, with the lowest and the highest."""
    known = sorted(values)
    return {"median": round(median(known), digits), "low": round(known[0], digits), "high": round(known[-1], digits)}


def read(file: Path) -> dict[str, Any]:
    """What has been measured so far; without any figure where there is no file."""
    content: dict[str, Any] = msgspec.json.decode(file.read_bytes()) if file.exists() else {"benchmarks": {}}
    return content


def record(benchmark: str, figures: dict[str, Any], file: Path) -> None:
    """Put what a benchmark measured in place of what it had measured before; those of the others stay."""
    measured = read(file)["benchmarks"] | {
        benchmark: {
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            **figures,
        }
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
