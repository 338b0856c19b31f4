"""The normalizer as a process on a real broker: what goes in comes out, and survives kill -9."""

import asyncio
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from monitoring.lag import read_lag
from runtime.kafka.clients import connection_config, producer_config
from runtime.kafka.topic_admin import end_offsets, ensure_topics
from runtime.settings import Settings
from schemas.events import HEADER_KIND, HEADER_MAPPING, HEADER_SOURCE, CleanRecord, FailedRecord
from stream_processors.batch_transport import FETCH_WAIT_MS
from tests.integration.test_lag import commit
from tests.processes import Process
from tests.transactions import aborted, committed, hung, transactional_producer, write
from tests.waiting import eventually

LOAD = 40_000
KILLS = 4
CUSTOMER = (
    b'{"customer_id":"C%06d","first_name":" Anna ","last_name":"Meyer","email":"Anna.%d@Example.com",'
    b'"phone":"+49 30 1234567","date_of_birth":"31.1.1980","account_balance":%d.1}'
)

with_worker = pytest.mark.usefixtures("worker")

Offsets = dict[tuple[str, int], int]


@pytest.fixture
def topics(settings: Settings) -> Settings:
    ensure_topics(settings)
    return settings


@pytest.fixture
def worker(topics: Settings, tmp_path: Path) -> Iterator[Process]:
    process = Process("normalizer", topics, tmp_path / "normalizer.log")
    process.start()
    process.wait_until_healthy()
    yield process
    process.kill()


@with_worker
def test_a_record_comes_out_normalized_in_its_own_partition(topics: Settings) -> None:
    producer = Producer(producer_config(topics))
    producer.produce(topics.named("customers.raw"), CUSTOMER % (1, 1, 7), b"C000001", partition=2)
    assert producer.flush(60) == 0

    (message,) = read(topics, "customers.clean", 1)
    record = msgspec.json.decode(message.value() or b"", type=CleanRecord)
    assert message.partition() == 2
    assert message.key() == b"C000001"
    assert record.key == "C000001"
    assert (record.origin.topic, record.origin.partition, record.origin.offset) == (topics.named("customers.raw"), 2, 0)
    assert (record.source, record.kind) == ("push", "push")
    assert msgspec.json.decode(record.data) == {
        "customer_id": "C000001",
        "first_name": "Anna",
        "last_name": "Meyer",
        "email": "anna.1@example.com",
        "phone": "+49301234567",
        "address": None,
        "date_of_birth": "1980-01-31",
        "account_balance": "7.10",
    }


@with_worker
def test_garbage_becomes_failures_and_what_follows_goes_on(topics: Settings) -> None:
    garbage = [b"", b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"customer_id":', b"1" * 50_000, b"{}"]
    producer = Producer(producer_config(topics))
    for value in [*garbage, None, CUSTOMER % (1, 1, 7)]:
        producer.produce(topics.named("customers.raw"), value, b"k" if value is not None else None, partition=1)
    producer.produce(
        topics.named("customers.raw"), b"{}", b"k", partition=1, headers=[(HEADER_MAPPING, b'{"no_such_field":"x"}')]
    )
    assert producer.flush(60) == 0

    failures = [msgspec.json.decode(m.value() or b"", type=FailedRecord) for m in read(topics, "failures", 9)]
    assert [failed.payload for failed in failures] == [*garbage, None, b"{}"]
    reasons = ["not_json", "not_json", "not_json", "not_an_object", "not_json", "not_json", "missing_field"]
    assert [failed.reason for failed in failures] == [*reasons, "delete_without_key", "bad_mapping"]
    assert [failed.origin.offset for failed in failures] == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    (clean,) = read(topics, "customers.clean", 1)
    assert msgspec.json.decode(clean.value() or b"", type=CleanRecord).origin.offset == 8


@with_worker
def test_a_mapping_in_the_headers_decides_how_a_record_is_read(topics: Settings) -> None:
    headers: list[tuple[str, str | bytes | None]] = [
        (HEADER_SOURCE, b"titanic"),
        (HEADER_KIND, b"csv"),
        (HEADER_MAPPING, b'{"source_id":"PassengerId","name":"Name","value":"Fare"}'),
    ]
    value = b'{"PassengerId":"17","Name":"Rice, Master.  Eugene","Fare":"29.125","Cabin":""}'
    producer = Producer(producer_config(topics))
    producer.produce(topics.named("records.raw"), value, b"titanic:17", headers=headers)
    assert producer.flush(60) == 0

    (message,) = read(topics, "records.clean", 1)
    record = msgspec.json.decode(message.value() or b"", type=CleanRecord)
    assert record.key == "titanic:17"
    assert record.unknown == ("Cabin",)
    assert msgspec.json.decode(record.data)["value"] == "29.1250"


def test_records_that_come_one_by_one_are_taken_by_batches(topics: Settings, worker: Process) -> None:
    sent = 600
    producer = Producer({**connection_config(topics), "linger.ms": 0})
    producer.list_topics(timeout=10)
    began = time.monotonic()
    for number in range(sent):
        producer.produce(topics.named("customers.raw"), CUSTOMER % (number, number, 7), b"C%06d" % number, partition=1)
        assert producer.flush(60) == 0
    eventually(lambda: end_of(topics, "customers.clean") == sent, what="all are normalized")

    fetches_at_most = (time.monotonic() - began) * 1000 / FETCH_WAIT_MS + 2
    metrics = worker.get("/metrics").text
    taken, batches = (
        float(re.findall(rf'^headrace_normalizer_batch_records_{what}{{dataset="customers"}} (\S+)', metrics, re.M)[0])
        for what in ("sum", "count")
    )
    assert taken == sent
    assert batches <= fetches_at_most


def test_sigterm_drains_commits_and_exits_with_0(topics: Settings, worker: Process) -> None:
    load(topics, 20_000)
    eventually(lambda: end_of(topics, "customers.clean") > 0, what="the worker has begun")
    assert worker.stop() == 0
    written, done = (
        end_of(topics, "customers.clean") + end_of(topics, "failures"),
        sum(committed_offsets(topics).values()),
    )
    assert written == done, "what was produced was committed, and nothing else"


def test_a_worker_listens_on_its_health_port_only(worker: Process) -> None:
    listening = [c for c in psutil.Process(worker.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert [f"http://{c.laddr.ip}:{c.laddr.port}" for c in listening] == [worker.url]


def test_nothing_is_lost_when_workers_are_killed_under_load(topics: Settings, tmp_path: Path) -> None:
    workers = [Process("normalizer", topics, tmp_path / f"normalizer-{number}.log", number) for number in (0, 1)]
    try:
        for process in workers:
            process.start()
        for process in workers:
            process.wait_until_healthy()
        for round_ in range(KILLS):
            # A share of the load per kill, so that each kill falls into work however quick the machine is.
            loading = threading.Thread(target=load, args=(topics, LOAD // KILLS))
            before = produced(topics)
            loading.start()
            eventually(lambda before=before: produced(topics) > before, what="work goes on", every=0.02)  # type: ignore[misc]
            workers[round_ % 2].kill()
            workers[round_ % 2].start()
            loading.join()
        wait_until_committed(topics, LOAD)
        assert_every_offset_came_out(topics)

        # Batches that are taken for gaps after a restart would now never be committed again.
        workers[0].kill()
        workers[0].start()
        assert workers[1].stop() == 0
        load(topics, 2000)
        wait_until_committed(topics, LOAD + 2000)
        assert_every_offset_came_out(topics)
    finally:
        for process in workers:
            process.kill()


@with_worker
def test_what_a_transaction_has_aborted_is_no_record_and_its_marker_is_no_lag(topics: Settings) -> None:
    topic, producer = topics.named("customers.raw"), transactional_producer(topics)
    aborted(producer, topic, [(b"C1", CUSTOMER % (1, 1, 1)), (b"C2", None)])  # nothing else is in this partition
    committed(producer, topic, customers(1, 2), partition=1)
    aborted(producer, topic, [(b"C000001", None)], partition=1)
    aborted(producer, topic, customers(3), partition=1)
    committed(producer, topic, customers(4), partition=1)
    wait_until_nothing_waits(topics)
    assert {partition: sorted(offsets) for partition, offsets in origins(topics, "customers.clean").items()} == {
        1: [0, 1, 7]
    }
    assert end_of(topics, "failures") == 0


IMPATIENT = """
import stream_processors.worker_health as health
health.WATCH_SECONDS, health.STALLED_SECONDS, health.GIVE_UP_SECONDS = 0.2, 1.0, 3.0
"""


def test_records_behind_an_open_transaction_wait_for_it_and_the_worker_does_not_give_up(
    topics: Settings, tmp_path: Path
) -> None:
    topic = topics.named("customers.raw")
    process = Process("normalizer", topics, tmp_path / "normalizer.log", patch=IMPATIENT)
    process.start()
    try:
        process.wait_until_healthy()
        with hung(topics, topic, customers(1, 2)):
            write(Producer(producer_config(topics)), topic, customers(3))  # somebody else's, ordinary
            eventually(lambda: held_seconds(topics, topic) > 4, what="it has been held for longer than it may stall")
            process.wait_until_healthy()
            assert produced(topics) == 0
    finally:
        process.kill()


def held_seconds(settings: Settings, topic: str) -> float:
    rows = asyncio.run(read_lag(settings))
    return max(row.held_seconds or 0 for row in rows if row.topic == topic)


def test_what_retention_has_taken_before_it_was_read_is_said_and_is_no_lag(topics: Settings, tmp_path: Path) -> None:
    topic = topics.named("customers.raw")
    for partition in (0, 1):
        write(Producer(producer_config(topics)), topic, customers(*range(5)), partition)
        commit(topics, topics.named("normalizer"), topic, partition, 1)
    admin = AdminClient({"bootstrap.servers": topics.kafka_bootstrap_servers})
    for done in admin.delete_records([TopicPartition(topic, 0, 3), TopicPartition(topic, 1, 5)]).values():
        done.result()
    process = Process("normalizer", topics, tmp_path / "normalizer.log")
    process.start()
    try:
        wait_until_nothing_waits(topics)
        assert {partition: sorted(offsets) for partition, offsets in origins(topics, "customers.clean").items()} == {
            0: [3, 4]
        }
        told = {line["partition"]: (line["begin"], line["end"]) for line in process.logged("records_gone")}
        assert told == {f"{topic}/0": (1, 3), f"{topic}/1": (1, 5)}
    finally:
        process.kill()


def test_a_log_that_was_cut_off_is_read_again_from_its_first_record(topics: Settings, tmp_path: Path) -> None:
    topic = topics.named("customers.raw")
    write(Producer(producer_config(topics)), topic, customers(*range(5)))
    commit(topics, topics.named("normalizer"), topic, 0, 50)
    process = Process("normalizer", topics, tmp_path / "normalizer.log")
    process.start()
    try:
        eventually(lambda: process.exit_code is not None, what="it has ended, for the supervisor to start it again")
        (line,) = process.logged("normalizer_crashed")
        assert f"{topic}/0 ends before 50" in line["error"]
        process.start()
        wait_until_nothing_waits(topics)
        assert sorted(origins(topics, "customers.clean")[0]) == [0, 1, 2, 3, 4]
    finally:
        process.kill()


CONFIRMS_NOTHING = """
import stream_processors.confirmations as confirmations
confirmations.Confirmations.report_complete = lambda self: None
"""


def test_a_worker_killed_with_batches_in_work_has_not_committed_past_them_whatever_markers_follow(
    topics: Settings, tmp_path: Path
) -> None:
    topic, producer = topics.named("customers.raw"), transactional_producer(topics)
    process = Process("normalizer", topics, tmp_path / "normalizer.log", patch=CONFIRMS_NOTHING)
    process.start()
    try:
        process.wait_until_healthy()
        committed(producer, topic, customers(*range(3)))
        eventually(lambda: produced(topics) == 3, what="the first batch is in work")
        aborted(producer, topic, customers(0))
        aborted(producer, topic, customers(0), partition=1)
        eventually(lambda: committed_offsets(topics)[topic, 1] == 2, what="it has passed the markers")
        for _ in range(3):
            committed(producer, topic, customers(*range(2500)))  # more than a batch each: some are prefetched
            aborted(producer, topic, customers(0))
        eventually(lambda: produced(topics) > 2500, what="several batches are in work")
        assert committed_offsets(topics)[topic, 0] == 0
    finally:
        process.kill()
    healthy = Process("normalizer", topics, tmp_path / "normalizer.log")
    healthy.start()
    try:
        wait_until_nothing_waits(topics)
    finally:
        healthy.kill()
    first = 6
    expected = [0, 1, 2, *(first + round_ * 2503 + number for round_ in range(3) for number in range(2500))]
    assert sorted(origins(topics, "customers.clean")[0]) == expected


def customers(*numbers: int) -> list[tuple[bytes, bytes | None]]:
    return [(b"C%06d" % number, CUSTOMER % (number, number, 1)) for number in numbers]


def wait_until_nothing_waits(settings: Settings) -> None:
    """All that can be read has been read and committed, markers included."""
    ends = by_place(end_offsets(settings, [settings.named("customers.raw")]))
    eventually(lambda: committed_offsets(settings) == ends, what=f"the group has committed {ends}", within=90)


def by_place(offsets: dict[TopicPartition, int]) -> Offsets:
    return {(place.topic, place.partition): offset for place, offset in offsets.items()}


def load(settings: Settings, count: int) -> None:
    """Publish `count` customers, one in a hundred broken."""
    producer = Producer(producer_config(settings))
    topic = settings.named("customers.raw")
    for number in range(count):
        value = b"{broken" if number % 100 == 0 else CUSTOMER % (number, number, number % 1000)
        while True:
            try:
                producer.produce(topic, value, b"C%06d" % number, headers=[(HEADER_SOURCE, b"customers")])
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def wait_until_committed(settings: Settings, records: int) -> None:
    assert end_of(settings, "customers.raw") == records
    wait_until_nothing_waits(settings)


def assert_every_offset_came_out(settings: Settings) -> None:
    """Each raw offset is the origin of at least one output, and never of both kinds."""
    clean, failed = origins(settings, "customers.clean"), origins(settings, "failures")
    for tp, end in end_offsets(settings, [settings.named("customers.raw")]).items():
        partition = tp.partition
        assert clean[partition].keys() | failed[partition].keys() == set(range(end))
        assert not clean[partition].keys() & failed[partition].keys()


def origins(settings: Settings, topic: str) -> dict[int, Counter[int]]:
    found: dict[int, Counter[int]] = defaultdict(Counter)
    for message in read(settings, topic, end_of(settings, topic)):
        origin = msgspec.json.decode(message.value() or b"", type=_WithOrigin).origin
        assert origin.partition == message.partition()
        found[origin.partition][origin.offset] += 1
    return found


class _WithOrigin(msgspec.Struct):
    origin: "_Coordinates"


class _Coordinates(msgspec.Struct):
    partition: int
    offset: int


def produced(settings: Settings) -> int:
    return end_of(settings, "customers.clean") + end_of(settings, "failures")


def committed_offsets(settings: Settings) -> Offsets:
    """Offsets that the normalizer has committed for the customers' raw topic, 0 where none."""
    group, topic = settings.named("normalizer"), settings.named("customers.raw")
    partitions = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    futures = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, partitions)])
    return {(tp.topic, tp.partition): max(tp.offset, 0) for tp in futures[group].result().topic_partitions}


def end_of(settings: Settings, topic: str) -> int:
    return sum(end_offsets(settings, [settings.named(topic)]).values())


def read(settings: Settings, topic: str, count: int) -> list[Message]:
    """The first `count` messages of a topic, waiting for them; in order within a partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(settings.named(topic), n, 0) for n in range(settings.topic_partitions)])
    messages: list[Message] = []
    deadline = time.monotonic() + 60
    try:
        while len(messages) < count:
            assert time.monotonic() < deadline, f"{len(messages)} of {count} messages on {topic} within 60 s"
            messages += consumer.consume(count - len(messages), timeout=1.0)
    finally:
        consumer.close()
    assert not [message.error() for message in messages if message.error()]
    return messages
