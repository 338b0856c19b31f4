"""The metrics of sinks, served at `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("headrace_sink_records", "Messages written to the store (repeats included)", ["sink"])
BATCHES = Counter("headrace_sink_batches", "Batches written to the store", ["sink"])
WRITE_SECONDS = Histogram(
    "headrace_sink_write_seconds",
    "Time to write one batch to the store, without waiting for an outage to end",
    ["sink"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
WAITING = Gauge("headrace_sink_waiting_for_store", "1 while the store is down and partitions are paused", ["sink"])
FAILURE_LIMIT = Gauge("headrace_sink_failure_limit_reached", "1 while too many records fail to go on", ["sink"])
OUTCOMES = Counter("headrace_sink_outcomes", "Raw records by where they ended, and repeats", ["dataset", "outcome"])
SCHEMA_DRIFT = Counter(
    "headrace_schema_drift", "Fields that a source gained, lost or retyped", ["dataset", "what", "breaking"]
)
