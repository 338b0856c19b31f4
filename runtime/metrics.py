"""Every metric of every process: its name, meaning, labels, and who exposes it. Nobody else makes one.

`docs/metrics.md` is written from here, and the alert rules and dashboards in `deploy/` are checked against it.
"""

from runtime.instruments import Catalogue
from schemas.sinks import SINKS

METRICS = Catalogue()

SINK_ROLES = tuple(sink.group for sink in SINKS)
NORMALIZER = ("normalizer",)
POSTGRES = ("sink-postgres",)
LANDING = ("sink-landing",)
RELAY = ("relay",)
SCHEDULER = ("scheduler",)
WATCHDOG = ("watchdog",)
MONITOR = ("monitor",)
API = ("api",)
REHEARSED = (*NORMALIZER, *SINK_ROLES)
WORKERS = (*NORMALIZER, *SINK_ROLES, *RELAY, *SCHEDULER, *WATCHDOG, *MONITOR)

SECONDS_OF_A_BATCH = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
RECORDS_OF_A_BATCH = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)

PROCESS_HEALTHY = METRICS.gauge(WORKERS, "headrace_healthy", "1 while the process's own /health says no problem")
PROCESS_DEGRADED = METRICS.gauge(WORKERS, "headrace_degraded", "1 while it has paused something, or is degraded")

# The normalizer

NORMALIZED = METRICS.counter(
    NORMALIZER, "headrace_normalizer_records", "Raw records by what became of them: clean, failed, held",
    "dataset", "outcome",
)  # fmt: skip
NORMALIZER_FAILURES = METRICS.counter(
    NORMALIZER, "headrace_normalizer_failures", "Rejected records by reason code", "dataset", "reason"
)
NORMALIZER_HOLDS = METRICS.gauge(
    NORMALIZER, "headrace_normalizer_failure_limit_reached", "1 while records of a source of the dataset are held",
    "dataset",
)  # fmt: skip
UNKNOWN_FIELDS = METRICS.counter(
    NORMALIZER, "headrace_normalizer_unknown_fields", "Records with a field that the dataset does not have",
    "dataset", "field",
)  # fmt: skip
NORMALIZER_BATCH_RECORDS = METRICS.histogram(
    NORMALIZER, "headrace_normalizer_batch_records", "Records per batch", "dataset", bounds=RECORDS_OF_A_BATCH
)
NORMALIZER_BATCH_SECONDS = METRICS.histogram(
    NORMALIZER, "headrace_normalizer_batch_seconds",
    "From taking a batch to the broker's confirmation of all that came of it", "dataset", bounds=SECONDS_OF_A_BATCH,
)  # fmt: skip

# Sinks, and the relay, which works like one

SINK_RECORDS = METRICS.counter(
    (*SINK_ROLES, *RELAY), "headrace_sink_records", "Messages written to the store, repeats included", "sink"
)
SINK_BATCHES = METRICS.counter((*SINK_ROLES, *RELAY), "headrace_sink_batches", "Batches written to the store", "sink")
SINK_BATCH_RECORDS = METRICS.histogram(
    (*SINK_ROLES, *RELAY), "headrace_sink_batch_records", "Messages per batch", "sink", bounds=RECORDS_OF_A_BATCH
)
SINK_WRITE_SECONDS = METRICS.histogram(
    (*SINK_ROLES, *RELAY), "headrace_sink_write_seconds",
    "Time to write one batch to the store, without waiting for an outage to end", "sink", bounds=SECONDS_OF_A_BATCH,
)  # fmt: skip
SINK_RETRIES = METRICS.counter(
    (*SINK_ROLES, *RELAY), "headrace_sink_retries", "Tries that a store refused or did not answer, to be tried again",
    "sink",
)  # fmt: skip
SINK_WAITING = METRICS.gauge(
    (*SINK_ROLES, *RELAY), "headrace_sink_waiting_for_store", "1 while the store is down and partitions are paused",
    "sink",
)  # fmt: skip
SINK_FAILURE_LIMIT = METRICS.gauge(
    (*SINK_ROLES, *RELAY), "headrace_sink_failure_limit_reached", "1 while too many records fail to go on", "sink"
)
SINK_GONE = METRICS.counter(
    SINK_ROLES, "headrace_sink_records_gone", "Offsets that retention took before they were read", "sink", "topic"
)
OUTCOMES = METRICS.counter(
    POSTGRES, "headrace_sink_outcomes", "Raw records by where they ended, and repeats", "dataset", "outcome"
)
DEAD_LETTERS = METRICS.counter(
    POSTGRES, "headrace_dead_letters", "Records that have come to ingest_failures, by the stage and its reason code",
    "dataset", "stage", "reason",
)  # fmt: skip
RECORD_SECONDS = METRICS.histogram(
    POSTGRES, "headrace_record_seconds", "From a raw record's time in Kafka to the commit in Postgres", "dataset",
    bounds=(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0),
)  # fmt: skip
SCHEMA_DRIFT = METRICS.counter(
    LANDING, "headrace_schema_drift", "Fields that a source gained, lost or retyped", "dataset", "what", "breaking"
)
OUTBOX_SECONDS = METRICS.histogram(
    RELAY, "headrace_outbox_seconds", "From the start of a row's transaction to the broker's confirmation of its event",
    bounds=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0),
)  # fmt: skip

# Runs, restarts, rehearsals

RUNS = METRICS.counter(
    SCHEDULER, "headrace_etl_runs", "Scheduled runs by how they ended: success, failed, skipped", "source", "status"
)
RUN_SECONDS = METRICS.histogram(
    SCHEDULER, "headrace_etl_run_seconds", "Duration of scheduled runs that succeeded", "source",
    bounds=(0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0),
)  # fmt: skip
RUN_LAST_SUCCESS = METRICS.gauge(
    SCHEDULER, "headrace_etl_last_success_timestamp_seconds", "When a scheduled run last succeeded", "source"
)
PUBLISHED = METRICS.counter(
    (*SCHEDULER, *API), "headrace_published_records", "Raw records that the broker confirmed, of runs that have ended",
    "source",
)  # fmt: skip
PRUNED = METRICS.counter(SCHEDULER, "headrace_pruned_rows", "Rows that were older than their table keeps", "table")
RESTARTS = METRICS.counter(
    WATCHDOG, "headrace_watchdog_restarts", "Processes restarted because their group stalled", "group"
)
REHEARSALS = METRICS.gauge(
    REHEARSED, "headrace_rehearsals_active", "Rehearsals of this process's stage that are running", "stage"
)
REHEARSED_FAILURES = METRICS.counter(
    REHEARSED, "headrace_rehearsal_injected", "Failures that were asked for", "stage", "kind"
)

# The API

REQUESTS = METRICS.tally(
    API, "headrace_http_requests", "Requests by the template of their route; `(none)` where no route takes them",
    "method", "route", "status",
)  # fmt: skip
REQUEST_SECONDS = METRICS.histogram(
    API, "headrace_http_request_seconds", "Time until the answer is sent", "method", "route",
    bounds=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)  # fmt: skip
CACHE_READS = METRICS.tally(
    API, "headrace_cache_reads",
    "Reads of single records: hit, miss, bypass (Redis is away), or none (there is none by configuration)",
    "dataset", "use",
)  # fmt: skip
CACHE_FILLS = METRICS.tally(
    API, "headrace_cache_fills", "Fills of the cache: taken, or refused since a newer version may be known",
    "dataset", "outcome",
)  # fmt: skip
SEARCHES = METRICS.tally(
    API, "headrace_searches",
    "Searches by who answered: elasticsearch, postgres in its stead, postgres_only where there is none", "backend",
)  # fmt: skip

# The lag of all consumer groups, by the names of kafka_exporter and of the Kafka lag exporter, for people's dashboards.
# Each is read from the monitor's latest view. A group's name is under the labels of both.

_BY_PARTITION = ("consumergroup", "group", "topic", "partition")
_CLUSTER_PARTITION = ("cluster_name", "group", "topic", "partition")

KAFKA_LAG = METRICS.snapshot(MONITOR, "kafka_consumergroup_lag", "Offsets that wait", *_BY_PARTITION)
KAFKA_LAG_SUM = METRICS.snapshot(
    MONITOR, "kafka_consumergroup_lag_sum", "Offsets that wait in a topic", "consumergroup", "group", "topic"
)
KAFKA_COMMITTED = METRICS.snapshot(
    MONITOR, "kafka_consumergroup_current_offset", "The next offset that the group will read", *_BY_PARTITION
)
KAFKA_END = METRICS.snapshot(
    MONITOR, "kafka_topic_partition_current_offset", "The last stable offset", "topic", "partition"
)
KAFKA_BEGIN = METRICS.snapshot(
    MONITOR, "kafka_topic_partition_oldest_offset", "The first offset that is still there", "topic", "partition"
)
KAFKA_GROUP_LAG = METRICS.snapshot(MONITOR, "kafka_consumergroup_group_lag", "Offsets that wait", *_CLUSTER_PARTITION)
KAFKA_GROUP_LAG_SECONDS = METRICS.snapshot(
    MONITOR, "kafka_consumergroup_group_lag_seconds", "Age of the oldest record that waits; 0 without any",
    *_CLUSTER_PARTITION,
)  # fmt: skip
KAFKA_GROUP_OFFSET = METRICS.snapshot(
    MONITOR, "kafka_consumergroup_group_offset", "The next offset that the group will read", *_CLUSTER_PARTITION
)
KAFKA_GROUP_TOPIC_SUM_LAG = METRICS.snapshot(
    MONITOR, "kafka_consumergroup_group_topic_sum_lag", "Offsets that wait in a topic", "cluster_name", "group", "topic"
)
KAFKA_GROUP_SUM_LAG = METRICS.snapshot(
    MONITOR, "kafka_consumergroup_group_sum_lag", "Offsets that wait for a group", "cluster_name", "group"
)
KAFKA_GROUP_MAX_LAG = METRICS.snapshot(
    MONITOR, "kafka_consumergroup_group_max_lag", "Offsets that wait in its worst partition", "cluster_name", "group"
)
KAFKA_GROUP_MAX_LAG_SECONDS = METRICS.snapshot(
    MONITOR, "kafka_consumergroup_group_max_lag_seconds", "Age of the oldest record that waits for a group",
    "cluster_name", "group",
)  # fmt: skip
KAFKA_LATEST = METRICS.snapshot(
    MONITOR, "kafka_partition_latest_offset", "The last stable offset", "cluster_name", "topic", "partition"
)
KAFKA_EARLIEST = METRICS.snapshot(
    MONITOR, "kafka_partition_earliest_offset", "The first offset that is still there", "cluster_name", "topic",
    "partition",
)  # fmt: skip
GROUP_VERDICT = METRICS.snapshot(
    MONITOR, "headrace_group_verdict", "1 for the verdict on a group of this pipeline, 0 for all others",
    "group", "verdict",
)  # fmt: skip
GROUP_WAITING = METRICS.snapshot(
    MONITOR, "headrace_group_waiting_records", "Records that wait for a group of this pipeline, counted where possible",
    "group",
)  # fmt: skip
GROUP_DRAIN_SECONDS = METRICS.snapshot(
    MONITOR, "headrace_group_drain_seconds", "Time until nothing waits at these rates; no sample where it is not known",
    "group",
)  # fmt: skip
KAFKA_ANSWERS = METRICS.snapshot(MONITOR, "headrace_kafka_answers", "1 while Kafka answers the monitor")
COVERAGE_HOLES = METRICS.snapshot(
    MONITOR, "headrace_coverage_holes", "Raw records that nobody will bring any more, by the latest audit", "topic",
    "partition",
)  # fmt: skip
ALARMS_OPEN = METRICS.snapshot(MONITOR, "headrace_alarms_open", "Alarms that are open", "rule", "severity")
