"""What no caller can weaken."""

from runtime.kafka.clients import consumer_config
from runtime.settings import Settings


def test_every_consumer_reads_committed_and_commits_only_when_told_to() -> None:
    config = consumer_config(Settings(), "g", **{"isolation.level": "read_uncommitted", "enable.auto.commit": True})
    assert config["isolation.level"] == "read_committed"
    assert config["enable.auto.commit"] is False
