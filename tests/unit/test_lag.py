"""The pure rule of lag."""

from monitoring.lag import group_topics, lag_of

PLACE = ("customers.raw", 0)


def test_lag_is_end_minus_committed() -> None:
    (row,) = lag_of("normalizer", {PLACE: 4}, {PLACE: 0}, {PLACE: 10})
    assert (row.committed, row.end, row.lag) == (4, 10, 6)


def test_a_group_without_a_commit_lags_by_what_the_partition_still_holds() -> None:
    (row,) = lag_of("normalizer", {}, {PLACE: 3}, {PLACE: 10})
    assert (row.committed, row.lag) == (None, 7)


def test_a_commit_read_after_the_end_does_not_make_lag_negative() -> None:
    (row,) = lag_of("normalizer", {PLACE: 12}, {PLACE: 0}, {PLACE: 10})
    assert row.lag == 0


def test_groups_and_what_they_read_come_from_the_topic_registry() -> None:
    groups = group_topics()
    assert set(groups) == {"normalizer", "sink-postgres", "sink-landing", "sink-elasticsearch", "sink-redis"}
    assert groups["sink-postgres"] == ["customers.clean", "failures", "orders.clean", "records.clean"]
