"""The Elasticsearch sink against a bare loop that posts raw NDJSON: real servers, same index, same bytes.

    python -m benchmarks.elasticsearch_sink --records 200000 --rounds 3

Starts a Kafka and an Elasticsearch of its own. In each round the index of `customers` is made anew for each of the
two: a bare loop posts bulk requests that were made before the clock started, and the sink reads the change events of
the same customers from Kafka and indexes the same lines. Both clocks start after the first ten thousand; in the end
the index must hold every document. A first run of the loop, on a cold node, stands beside them and does not count.
Medians; CPU is of this process and of Elasticsearch, per document. Ends with 1 if the sink's rate is below 0.9 of the
loop's.
"""

import argparse
import asyncio
import http.client
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
from confluent_kafka import Producer

from benchmarks.postgres_sink import clean_record
from benchmarks.results import RESULTS, record
from local_stack.servers import start_servers
from runtime.kafka.clients import producer_config
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings, load_settings
from schemas.events import ChangeEvent
from schemas.registry import dataset_named
from sinks.elasticsearch import ElasticsearchSink, bulk_lines
from sinks.lifecycle import run_in_loop
from sinks.runner import Runner
from stores.search_index import alias_name, ensure_indices, index_name
from stores.search_server import SearchServer

CUSTOMERS = dataset_named("customers")
DOCUMENTS_A_REQUEST = 10_000
TARGET = 0.9
"""The share of the loop's documents per second that the sink must reach."""

WATCH_SECONDS = 0.02


class Rate(NamedTuple):
    """Documents per second, and CPU time per document in µs: of this process and of Elasticsearch."""

    per_second: float
    cpu_us: float
    elasticsearch_cpu_us: float


class Stopwatch:
    """Measures from its making on."""

    def __init__(self, node: psutil.Process) -> None:
        self._node = node
        self._began, self._cpu, self._of_node = time.perf_counter(), time.process_time(), _cpu_seconds(node)

    def rate(self, documents: int) -> Rate:
        seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        of_node = _cpu_seconds(self._node) - self._of_node
        return Rate(documents / seconds, cpu / documents * 1e6, of_node / documents * 1e6)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def change_event(settings: Settings, number: int) -> ChangeEvent:
    clean = clean_record(settings, number, 0, "Ada")
    times = b',"created_at":"2026-01-31T12:00:00.000001Z","updated_at":"2026-01-31T12:00:00.000001Z"}'
    return ChangeEvent(clean.key, "stored", number + 1, clean.origin, msgspec.Raw(bytes(clean.data)[:-1] + times))


def publish(settings: Settings, events: list[ChangeEvent]) -> None:
    producer = Producer(producer_config(settings))
    topic = settings.named(CUSTOMERS.changed_topic)
    for event in events:
        while True:
            try:
                partition = event.origin.partition if event.origin else 0
                producer.produce(topic, msgspec.json.encode(event), event.key, partition=partition)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def bare_loop(settings: Settings, requests: list[bytes], count: int, node: psutil.Process) -> Rate:
    """Post requests that are ready-made, one after the other."""
    host = str(settings.elasticsearch_url).removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=120)
    stopwatch = Stopwatch(node)
    for number, body in enumerate(requests):
        if number == 1:
            stopwatch = Stopwatch(node)
        connection.request("POST", "/_bulk?filter_path=errors", body, {"content-type": "application/x-ndjson"})
        answer = connection.getresponse().read()
        if answer != b'{"errors":false}':
            raise RuntimeError(f"the loop's request was refused: {answer[:500]!r}")
    connection.close()
    return stopwatch.rate(count - DOCUMENTS_A_REQUEST)


async def run_sink(settings: Settings, count: int, node: psutil.Process) -> Rate:
    """Run the sink until it has written so many records."""
    runner = Runner(ElasticsearchSink(settings), settings)
    running = asyncio.create_task(runner.run())
    stopwatch, first, written = Stopwatch(node), 0, 0
    while written < count:
        if running.done():
            await running
        await asyncio.sleep(WATCH_SECONDS)
        written = runner.health()["records"]
        if first < DOCUMENTS_A_REQUEST <= written:
            stopwatch, first = Stopwatch(node), written
    rate = stopwatch.rate(written - first)
    runner.stop()
    await running
    return rate


async def measure(settings: Settings, count: int, rounds: int, node: psutil.Process) -> dict[str, list[Rate]]:
    rates: dict[str, list[Rate]] = {"cold": [], "loop": [], "sink": []}
    async with SearchServer(settings, seconds=60) as server:
        for number, name in enumerate(["cold", *["loop", "sink"] * rounds]):
            # Topics and group are new each time, too: a commit that failed would bring records of the last round.
            its = settings.model_copy(update={"headrace_namespace": f"bench-{number}"})
            await ensure_indices(server, its)
            events = [change_event(its, number) for number in range(count)]
            if name == "sink":
                ensure_topics(its)
                publish(its, events)
                rates[name].append(await run_sink(its, count, node))
            else:
                lines = [bulk_lines(alias_name(CUSTOMERS, its), CUSTOMERS, event) for event in events]
                requests = [
                    b"".join(lines[at : at + DOCUMENTS_A_REQUEST]) for at in range(0, count, DOCUMENTS_A_REQUEST)
                ]
                rates[name].append(await asyncio.to_thread(bare_loop, its, requests, count, node))
            await server.ask("POST", f"/{alias_name(CUSTOMERS, its)}/_refresh")
            found = (await server.ask("GET", f"/{alias_name(CUSTOMERS, its)}/_count"))["count"]
            if found != count:
                raise RuntimeError(f"{name}: the index holds {found:,} documents of {count:,}")
            await server.ask("DELETE", f"/{index_name(CUSTOMERS, its)}")
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="the file that keeps the figures of all benchmarks"
    )
    arguments = parser.parse_args()
    if arguments.records < 3 * DOCUMENTS_A_REQUEST:
        parser.error(f"fewer than {3 * DOCUMENTS_A_REQUEST:,} records leave too little to measure")
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as home,
        start_servers(Path(home), {"kafka", "elasticsearch"}) as servers,
    ):
        settings = load_settings(
            kafka_bootstrap_servers=servers.addresses["KAFKA_BOOTSTRAP_SERVERS"],
            elasticsearch_url=servers.addresses["ELASTICSEARCH_URL"],
        )
        node = psutil.Process(servers.pid("elasticsearch"))
        rates = run_in_loop(measure(settings, arguments.records, arguments.rounds, node))
    figures = figures_of(arguments.records, rates)
    record("elasticsearch_sink", figures, arguments.results)
    print(json.dumps(figures, indent=2))
    if figures["sink_to_ndjson"] < TARGET:
        sys.exit(f"missed: the sink indexes less than {TARGET} of what the loop does")


def figures_of(count: int, rates: dict[str, list[Rate]]) -> dict[str, Any]:
    """Medians and ranges of each, and the sink's rate as a share of the loop's: of the same round, the median."""
    figures: dict[str, Any] = {"records": count, "rounds": len(rates["sink"])}
    for name, measured in rates.items():
        per_second = [rate.per_second for rate in measured]
        figures[name] = {
            "per_second": round(statistics.median(per_second)),
            "range": [round(min(per_second)), round(max(per_second))],
            "cpu_us": round(statistics.median(rate.cpu_us for rate in measured), 1),
            "elasticsearch_cpu_us": round(statistics.median(rate.elasticsearch_cpu_us for rate in measured), 1),
        }
    shares = [sink.per_second / loop.per_second for sink, loop in zip(rates["sink"], rates["loop"], strict=True)]
    return figures | {"sink_to_ndjson": round(statistics.median(shares), 2)}


if __name__ == "__main__":
    main()
