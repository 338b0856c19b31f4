"""The progress of the pipeline through the raw partitions, and its verdict on an offset that is not covered.

An offset is not a record: the broker says of each whether it carries one (`runtime/kafka/holes.py`, decision 0027).
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runtime.kafka.offset_ranges import Evidence, OffsetRanges
from runtime.kafka.topic_admin import Place, admin_client, committed_offsets, list_offsets, partition_counts
from runtime.settings import Settings
from schemas.sinks import POSTGRES
from schemas.topics import FAILURES_TOPIC
from stores.epochs import raw_topics

NORMALIZER = "normalizer"


@dataclass(frozen=True)
class Passage:
    """The progress of the pipeline through one raw partition."""

    begin: int
    """The first offset that the log still has."""
    end: int
    """The last stable offset."""
    passed: int = 0
    """The normalizer's commit: all before it has been handed on, or carries no record."""
    settled: bool = False
    """True if neither the normalizer nor the Postgres sink has anything left to do for it."""
    held: int = 0
    """Offsets behind the end that wait for an open transaction."""
    seen_to: int = 0
    """The end of the log when it was looked at once more, where more was covered than there had been."""

    @property
    def top(self) -> int:
        """The end of the log: what lies behind it is not there."""
        return max(self.end + self.held, self.seen_to)


@dataclass(frozen=True)
class Missing:
    """Offsets below the end that are not covered, each in one of these."""

    in_flight: OffsetRanges
    """They may still come."""
    void: OffsetRanges
    """They carry no record, as the broker has shown."""
    expired: OffsetRanges
    """The log no longer has them, and nobody behind it has either."""
    unprovable: OffsetRanges
    """They have vanished from within the log (compaction), and nobody behind it has them either."""
    lost: OffsetRanges
    """Records that nobody will bring although the log still has them."""


def read_passages(settings: Settings, places: Collection[Place] | None = None) -> dict[Place, Passage]:
    """The passages of these raw partitions, by default of all that exist. Blocking. Raises KafkaException.

    Coverage that is read afterwards has all that was below the end of a settled partition.
    """
    admin, datasets, counts = admin_client(settings), raw_topics(settings), partition_counts(settings)
    if places is None:
        places = [(topic, number) for topic in datasets if topic in counts for number in range(counts[topic])]
    behind = {
        (topic, number): [(settings.named(name), number) for name in (datasets[topic].clean_topic, FAILURES_TOPIC)]
        for topic, number in places
    }
    # Somebody may have added partitions to a raw topic alone, or deleted a topic behind it.
    later = sorted({(name, n) for outputs in behind.values() for name, n in outputs if n < counts.get(name, 0)})
    # The high watermark first: what comes between the two looks is not held.
    tops = _offsets(admin, places, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)  # type: ignore[no-untyped-call]
    begins = _offsets(admin, [*places, *later], OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = _offsets(admin, places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    with ThreadPoolExecutor(2) as threads:
        passed = threads.submit(committed_offsets, settings, settings.named(NORMALIZER), list(places))
        taken = threads.submit(committed_offsets, settings, settings.named(POSTGRES.group), later)
        done = {**passed.result(), **taken.result()}
    # After the commits: whatever the normalizer had handed on when it committed is below these ends. Some of it may
    # lie behind a transaction that somebody has open there, where nobody can read it yet.
    ends |= _offsets(admin, later, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)  # type: ignore[no-untyped-call]
    # A group that stands behind the end of a log, which was cut off or where somebody has set it, begins again.
    ahead = [place for place, passed in done.items() if passed > ends[place]]
    astray = {place for place, end in ends_of_logs(settings, ahead).items() if done[place] > end}

    def finished(place: Place) -> bool:
        return place in ends and place not in astray and max(done.get(place, 0), begins[place]) >= ends[place]

    return {
        place: Passage(
            begins[place],
            ends[place],
            done.get(place, 0),
            finished(place) and all(map(finished, behind[place])),
            max(0, tops[place] - ends[place]),
        )
        for place in places
    }


def ends_of_logs(settings: Settings, places: Collection[Place]) -> dict[Place, int]:
    """The next offset to be written in each of these partitions. Blocking. Raises KafkaException."""
    uncommitted = IsolationLevel.READ_UNCOMMITTED
    return _offsets(admin_client(settings), places, OffsetSpec.latest(), uncommitted)  # type: ignore[no-untyped-call]


def judge_missing(passage: Passage, missing: OffsetRanges, evidence: Evidence) -> Missing:
    """Judge offsets that are not covered, by what the broker has shown of them. Pure.

    An offset that is gone from the log is given up when nobody has its record any more: the normalizer has not passed
    it, or there is nothing left to do behind the normalizer either. A record that the log still has is lost only when
    nobody has anything left to do. What was not read may be anything, so it is in flight.
    """
    given_up = missing if passage.settled else missing.within(passage.passed, passage.end)
    expired = given_up.within(0, passage.begin)
    kept = missing.without(expired)
    void, seen = kept.common(evidence.empty), kept.common(evidence.records)
    unprovable = given_up.without(expired).common(evidence.read).without(void).without(seen)
    lost = seen if passage.settled else OffsetRanges()
    in_flight = kept.without(void).without(unprovable).without(lost)
    return Missing(in_flight, void, expired, unprovable, lost)


def _offsets(
    admin: AdminClient,
    places: Collection[Place],
    spec: OffsetSpec,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
) -> dict[Place, int]:
    wanted = {TopicPartition(*place): spec for place in places}
    return {(p.topic, p.partition): offset for p, offset in list_offsets(admin, wanted, isolation).items()}
