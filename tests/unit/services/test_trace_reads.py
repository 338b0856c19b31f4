"""The raw records of a trace that the search back from the end has not come to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from runtime.kafka.browse import TopicMessage
from runtime.settings import Settings
from services.trace import reads
from services.trace.findings import KafkaFindings
from services.trace.model import SearchedTopic


@pytest.mark.parametrize(
    ("stopped", "read"),
    [(None, [20]), ("8 s were over: offsets 60 to 99 of customers.raw/2 were not looked at", [20, 70])],
)
def test_what_a_search_that_was_cut_short_left_out_is_read(
    stopped: str | None, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def browser(_: Any) -> Iterator[None]:
        yield

    def reading(_: Any, ranges: Mapping[Any, tuple[int, int]], __: Any) -> Iterator[TopicMessage]:
        for (topic, partition), (begin, _end) in ranges.items():
            yield TopicMessage(topic, partition, begin, 0, None, None)

    monkeypatch.setattr(reads, "browser", browser)
    monkeypatch.setattr(reads, "Reading", reading)
    seen = ("customers.raw", 2, 80)
    found = KafkaFindings(2, {seen: TopicMessage(*seen, 0, None, None)})
    found.searched.append(SearchedTopic("customers.raw", 2, 50, 100, 10, stopped))
    reads.read_raw_at(Settings(), [("customers.raw", 2, offset) for offset in (5, 20, 70, 80)], found)
    assert sorted(offset for _, _, offset in found.raw) == [*read, 80]
