"""Recreated topics are noticed, whatever has become of the others."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from runtime.kafka import topic_admin
from runtime.kafka.topic_admin import TopicRecreated, watch_topics
from runtime.settings import Settings

TOPICS = ["a.raw", "b.raw"]
NEVER: dict[str, str] = {"": ""}


class Broker:
    """Has other topics at each look: the id of each that exists, or None where it does not answer."""

    def __init__(self, *looks: dict[str, str] | None) -> None:
        self._looks: Iterator[dict[str, str] | None] = iter(looks)
        self.topics: dict[str, str] = {}

    def __call__(self, _: Settings) -> "Broker":
        return self

    def ask(self, question: Callable[["Broker"], Any]) -> Any:
        found = next(self._looks, NEVER)
        assert found is not NEVER, "it has not been noticed"
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        self.topics = found
        return question(self)

    def list_topics(self, timeout: float) -> "Broker":
        assert timeout > 0
        return self

    def ids(self, topics: Sequence[str]) -> dict[str, str]:
        """As the broker describes topics: not at all if one of them does not exist."""
        if unknown := set(topics) - self.topics.keys():
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, str(unknown)))
        return {name: self.topics[name] for name in topics}


@pytest.mark.parametrize(
    "looks",
    [
        [{"a.raw": "1", "b.raw": "1"}, {"a.raw": "2", "b.raw": "1"}],
        [{"a.raw": "1", "b.raw": "1"}, None, {"b.raw": "1"}, {"a.raw": "2"}],
        [{"a.raw": "1"}, {"a.raw": "1", "b.raw": "1"}, {"a.raw": "2"}],
        [{}, {"a.raw": "1"}, {}, {"a.raw": "2"}],
    ],
)
async def test_a_topic_that_comes_back_as_another_is_noticed(
    looks: list[dict[str, str] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(*looks)
    monkeypatch.setattr(topic_admin, "LastingAdmin", broker)
    monkeypatch.setattr(topic_admin, "WATCH_SECONDS", 0)
    monkeypatch.setattr(topic_admin, "topic_ids", Broker.ids)
    rewound: list[Collection[str]] = []

    async def rewind(topics: Collection[str]) -> None:
        rewound.append(topics)

    with pytest.raises(TopicRecreated) as caught:
        await watch_topics(Settings(), TOPICS, rewind)
    assert caught.value.topics == ["a.raw"]
    assert rewound == [["a.raw"]]
