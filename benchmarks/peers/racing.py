"""Candidates in turn: each works off the same waiting records in processes of its own, and is watched meanwhile."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.peers.installing import NotInstalled
from benchmarks.results import spread
from benchmarks.running_stack import cpu_seconds, memory
from local_stack.reaper import kill_tree
from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from schemas.events import HEADER_KIND, HEADER_SOURCE

PROJECT = Path(__file__).parent.parent.parent
WATCH_SECONDS = 0.1
PATIENCE_SECONDS = 900.0
STALL_SECONDS = 180.0
"""A candidate that has begun and gets nowhere for so long has failed."""

REASON = 300
"""Characters of a reason that are kept."""

HEADERS: list[tuple[str, str | bytes | None]] = [(HEADER_SOURCE, b"benchmark"), (HEADER_KIND, b"api")]


class Failed(Exception):
    """A candidate that did not do its work, with the reason."""


class Mark(NamedTuple):
    """So many records done, at that time, for so much CPU of the candidate and of the servers."""

    done: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float


class Race(NamedTuple):
    """One candidate's run. The first half is cold: processes have just started. The second half is what counts."""

    first: Mark
    half: Mark
    end: Mark
    peak_bytes: int

    @property
    def cold_per_second(self) -> float:
        return _rate(self.first, self.half)

    @property
    def per_second(self) -> float:
        return _rate(self.half, self.end)

    @property
    def cpu_us(self) -> float:
        """CPU of the candidate's processes per record, in µs."""
        return (self.end.cpu_seconds - self.half.cpu_seconds) / (self.end.done - self.half.done) * 1e6

    @property
    def server_cpu_us(self) -> float:
        """CPU of the watched servers per record, in µs."""
        return (self.end.server_cpu_seconds - self.half.server_cpu_seconds) / (self.end.done - self.half.done) * 1e6


def _rate(one: Mark, other: Mark) -> float:
    return (other.done - one.done) / max(other.seconds - one.seconds, 1e-9)


@contextmanager
def running(commands: Sequence[Sequence[str]], variables: Mapping[str, str]) -> Iterator[list[psutil.Process]]:
    """These commands as processes, which are killed in the end. Raises Failed when one has ended by itself."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-peer-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        # The project's rules are imported from where they are; an interpreter of another environment needs telling.
        environment = os.environ | {"PYTHONPATH": str(PROJECT), "PEER_FOLDER": folder, **variables}
        processes: list[subprocess.Popen[bytes]] = []
        for number, words in enumerate(commands):
            log = stack.enter_context((Path(folder) / f"{number}.log").open("wb"))
            process = subprocess.Popen(words, cwd=PROJECT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(process.wait)
            stack.callback(kill_tree, process.pid)
            processes.append(process)
        try:
            yield [psutil.Process(process.pid) for process in processes]
        except (Failed, psutil.NoSuchProcess) as error:
            ended = [number for number, process in enumerate(processes) if process.poll() is not None]
            said = [_tail(Path(folder) / f"{number}.log") for number in ended or range(len(processes))]
            raise Failed("; ".join([str(error), *filter(None, said)])) from error


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-600:]


def watch(
    processes: list[psutil.Process],
    servers: list[psutil.Process],
    done: Callable[[], int],
    total: int,
    second_half: Callable[[], None] = lambda: None,
) -> Race:
    """Watch until all records are done. `second_half` is called when half of them are: it may publish the others, which
    is no part of the race. Raises Failed when nothing moves any more or a process ends.
    """
    first: Mark | None = None
    half: Mark | None = None
    peak, began, moved, before = 0, time.monotonic(), time.monotonic(), 0

    def mark_of(now: int) -> Mark:
        return Mark(
            now, time.monotonic(), sum(map(cpu_seconds, processes)), sum(cpu_seconds(server) for server in servers)
        )

    while True:
        now = done()
        for process in processes:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise Failed(f"a process ended when {now:,} of {total:,} records were done")
        peak = max(peak, sum(memory(process) for process in processes))
        mark = mark_of(now)
        if now > before:
            before, moved = now, mark.seconds
        if first is None and now:
            first = mark
        if first is not None and half is None and now >= total / 2:
            second_half()
            half = mark_of(now)
        if first is not None and half is not None and now >= total:
            if half.done >= total:
                raise Failed(f"all of the second half came at once: {total:,} records are too few to measure")
            return Race(first, half, mark, peak)
        if (first is not None and mark.seconds - moved > STALL_SECONDS) or mark.seconds - began > PATIENCE_SECONDS:
            raise Failed(f"{now:,} of {total:,} records after {mark.seconds - began:.0f} s")
        time.sleep(WATCH_SECONDS)


@contextmanager
def frozen(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Stop these processes where they are, and let them go on afterwards."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def publish(settings: Settings, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Raw records, each with its key, into a topic. Raises Failed when Kafka does not take them."""
    producer = Producer(producer_config(settings))
    for key, value in records:
        produce(producer, topic, key, value)
    if producer.flush(120):
        raise Failed("Kafka did not take the records within 120 s")


def produce(producer: Any, topic: str, key: bytes, value: bytes, partition: int = -1) -> None:
    """Produce one record, waiting while the queue is full."""
    while True:
        try:
            producer.produce(topic, value, key, partition, headers=HEADERS)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def end_of(settings: Settings, topic: str) -> Callable[[], int]:
    """Gives the number of offsets in a topic: its records, as long as nobody writes in transactions."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "benchmark"})
    places = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
    ends = dict.fromkeys(places, 0)

    def end() -> int:
        for place in places:
            with suppress(KafkaException):  # a partition that has no leader yet: what is known stays
                ends[place] = consumer.get_watermark_offsets(place)[1]
        return sum(ends.values())

    return end


def records_of(settings: Settings, topic: str) -> Iterator[Any]:
    """Every message of a topic, from its beginning to its end as it is now."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "benchmark"})
    places = [TopicPartition(topic, number, 0) for number in range(settings.topic_partitions)]
    remaining = sum(consumer.get_watermark_offsets(place)[1] for place in places)
    consumer.assign(places)
    try:
        while remaining > 0:
            messages = consumer.consume(min(remaining, 5000), timeout=30)
            if not messages:
                raise Failed(f"{remaining:,} records of {topic} were not read within 30 s")
            remaining -= len(messages)
            yield from messages
    finally:
        consumer.close()


def as_row(races: list[Race], unit: str) -> dict[str, Any]:
    """A candidate's row: medians with the lowest and the highest of the rounds."""
    row: dict[str, Any] = {
        unit: spread((race.per_second for race in races), 0),
        "cold_records_per_second": spread((race.cold_per_second for race in races), 0),
        "cpu_us": spread(race.cpu_us for race in races),
        "server_cpu_us": spread(race.server_cpu_us for race in races),
        "peak_megabytes": round(max(race.peak_bytes for race in races) / 1e6),
    }
    if not row["server_cpu_us"]["high"]:  # none was watched
        del row["server_cpu_us"]
    return row


def run_all(
    candidates: Mapping[str, Callable[[], Race]], rounds: int, say: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, list[Race]], dict[str, str]]:
    """All candidates in turn, round by round; those that can't be had or fail are left out, with the reason."""
    races: dict[str, list[Race]] = {name: [] for name in candidates}
    left_out: dict[str, str] = {}
    for number in range(rounds):
        for name, run in candidates.items():
            if name in left_out:
                continue
            try:
                race = run()
            except (NotInstalled, Failed) as error:
                left_out[name] = f"left out: {publishable(str(error))}"
                say(f"{name}: left out: {error}")
            else:
                races[name].append(race)
                say(f"{name}, round {number + 1}: {race.per_second:,.0f}/s, {race.cpu_us:.1f} µs a record")
    return {name: known for name, known in races.items() if known and name not in left_out}, left_out


def measure(
    candidates: Mapping[str, Callable[[], Race]], rounds: int, records: int, unit: str, ours: str
) -> dict[str, Any]:
    """Figures of all candidates, their rates called `unit`, and who was left out. Tells its progress on stderr."""
    races, left_out = run_all(candidates, rounds, lambda line: print(line, file=sys.stderr))
    return {
        "rounds": rounds,
        "records": records,
        "rows": {name: as_row(known, unit) for name, known in races.items()},
        "left_out": left_out,
        **compared(races, ours),
    }


def publishable(reason: str) -> str:
    """A reason in one line, without addresses and folders of this machine. Pure."""
    words = re.sub(r"\S*(?:://|127\.0\.0\.1)\S*|(?<![\w.])/[\w.+-]+(?:/[\w.+-]+)+", "…", " ".join(reason.split()))
    return words.replace("|", "/")[:REASON]


def compared(races: dict[str, list[Race]], ours: str) -> dict[str, dict[str, float]]:
    """Ours to each of the others: records per second, and CPU per record. Medians of the rounds' own ratios."""
    if ours not in races:
        return {}
    others = [name for name in races if name != ours]

    def ratio(name: str, value: Callable[[Race], float]) -> float:
        pairs = zip(races[ours], races[name], strict=False)
        return spread((value(one) / max(value(other), 1e-9) for one, other in pairs), 2)["median"]

    return {
        "ours_to_others": {name: ratio(name, lambda race: race.per_second) for name in others},
        "cpu_of_others": {name: ratio(name, lambda race: race.cpu_us + race.server_cpu_us) for name in others},
    }
