"""benchmarks/results.json, and the customers that benchmarks send."""

import json
from pathlib import Path

from benchmarks.customers import Raw, customers
from benchmarks.results import record
from schemas.registry import dataset_named
from stream_processors.normalize import Normalized, RecordNormalizer


def test_a_benchmark_replaces_its_own_figures_and_leaves_those_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    record("whole", {"records_per_second": 9_000, "latency_warm_ms": {"p50": 40.5, "p99": 100.0}}, file)
    record("reads", {"cached_to_hello": 0.6, "search_to_elasticsearch": None}, file)
    record("whole", {"records_per_second": 9_500}, file)
    kept = json.loads(file.read_text())
    assert kept["ratios"] == {"cached_read_vs_hello": 0.6, "whole_records_per_s": 9_500}
    assert kept["benchmarks"]["reads"]["cached_to_hello"] == 0.6
    assert "latency_warm_ms" not in kept["benchmarks"]["whole"]


def test_the_same_seed_gives_the_same_customers_and_another_tag_other_keys() -> None:
    ours = list(customers(50, "a-"))
    assert ours == list(customers(50, "a-"))
    assert not {key for key, _ in ours} & {key for key, _ in customers(50, "b-")}
    assert len({json.loads(value)["email"] for _, value in ours}) == 50


def test_every_customer_that_benchmarks_send_is_valid() -> None:
    normalizer = RecordNormalizer(dataset_named("customers"))
    for number, (key, value) in enumerate(customers(300, "a-")):
        outcome = normalizer.normalize(Raw("customers.raw", 0, number, 0, key, value, []), 0)
        assert isinstance(outcome, Normalized), outcome
