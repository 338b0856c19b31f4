"""The pure rule of lag."""

from commands.lag_tables import held_remarks
from monitoring.lag import PartitionLag, group_topics, lag_of, partition_lag
from monitoring.samples import GroupSample, PartitionSample, Sample
from runtime.settings import load_settings


def row_of(committed: int | None, begin: int, end: int, top: int = 0, held_since: float | None = None) -> PartitionLag:
    row = PartitionSample(0, committed, begin, end, max(top, end), held_since=held_since)
    return partition_lag("normalizer", "customers.raw", row, now=1042.0)


def test_lag_is_end_minus_committed() -> None:
    row = row_of(4, 0, 10)
    assert (row.committed, row.end, row.lag) == (4, 10, 6)


def test_a_group_without_a_commit_lags_by_what_the_partition_still_holds() -> None:
    row = row_of(None, 3, 10)
    assert (row.committed, row.lag) == (None, 7)


def test_a_commit_read_after_the_end_does_not_make_lag_negative() -> None:
    row = row_of(12, 0, 10)
    assert row.lag == 0


def test_offsets_that_the_partition_no_longer_holds_are_not_lag() -> None:
    row = row_of(4, 9, 10)
    assert (row.committed, row.lag) == (4, 1)
    row = row_of(4, 10, 10)
    assert row.lag == 0


def test_offsets_behind_the_end_are_reported_as_held_by_the_open_transaction() -> None:
    row = row_of(10, 0, 10, top=14, held_since=1000.0)
    assert (row.end, row.lag, row.held, row.held_seconds) == (10, 0, 4, 42.0)
    (remark,) = held_remarks([row, row])
    assert remark.startswith("customers.raw/0: 4 offsets from 10 on are held by a transaction, open for 42 s; ")


def test_a_transaction_with_an_unknown_beginning_is_reported_without_its_age() -> None:
    row = row_of(10, 0, 10, top=14)
    assert (row.held, row.held_seconds) == (4, None)
    assert "open for a while;" in held_remarks([row])[0]
    assert held_remarks([row_of(10, 0, 10)]) == []


def test_only_the_groups_that_are_asked_for_are_told_and_only_the_topics_that_they_read() -> None:
    rows = [PartitionSample(0, 4, 0, 10, 10)]
    groups = {"ours": GroupSample("Stable", {"read": rows, "read-no-more": rows}), "another": GroupSample("Empty", {})}
    assert [(row.group, row.topic) for row in lag_of(Sample(1.0, groups), {"ours": ["read"]}, 2.0)] == [
        ("ours", "read")
    ]


def test_groups_and_the_topics_that_they_read_come_from_the_topic_registry() -> None:
    groups = group_topics(load_settings())
    assert set(groups) == {"normalizer", "sink-postgres", "sink-landing", "sink-elasticsearch", "sink-redis"}
    assert groups["sink-postgres"] == ["customers.clean", "failures", "orders.clean", "records.clean"]


def test_a_store_that_is_switched_off_has_no_consumer_group() -> None:
    everywhere = set(group_topics(load_settings()))
    assert everywhere - set(group_topics(load_settings(redis_url="none"))) == {"sink-redis"}
    assert everywhere - set(group_topics(load_settings(elasticsearch_url="none"))) == {"sink-elasticsearch"}
