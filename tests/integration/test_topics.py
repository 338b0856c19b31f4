"""Topics are made as they are declared, and `headrace topics` tells it."""

import json
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from typer.testing import CliRunner

from commands.topics import topics
from runtime.kafka.clients import MAX_MESSAGE_BYTES
from runtime.kafka.topic_admin import admin_client, incarnations, set_configuration
from runtime.settings import Settings
from schemas.topics import FAILURES_TOPIC, all_topics
from tests.foreign_batches import Record, batch, send_batch
from tests.integration.test_gaps import configure
from tests.processes import environment_of
from tests.waiting import eventually

HOURS = 3_600_000


def configured(settings: Settings) -> dict[str, dict[str, str]]:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    resources = [ConfigResource(ConfigResource.Type.TOPIC, settings.named(topic.name)) for topic in all_topics()]
    answers = admin.describe_configs(resources)
    return {
        resource.name: {name: entry.value for name, entry in answer.result().items()}
        for resource, answer in answers.items()
    }


def test_no_topic_is_compacted_and_failures_are_kept_four_times_as_long(pipeline_settings: Settings) -> None:
    kept = pipeline_settings.topic_retention_hours * HOURS
    failures = pipeline_settings.named(FAILURES_TOPIC)
    found = eventually(lambda: configured(pipeline_settings), what="the broker knows the topics that it has just made")
    for name, entries in found.items():
        assert entries["cleanup.policy"] == "delete"
        assert int(entries["retention.ms"]) == (4 * kept if name == failures else kept)


def test_set_up_gives_topics_their_declared_configuration_back(pipeline_settings: Settings) -> None:
    """An administrator has changed it, or has made them by hand with the broker's defaults."""
    raw, clean, failures = map(pipeline_settings.named, ("customers.raw", "customers.clean", FAILURES_TOPIC))
    odd = {
        raw: {"message.timestamp.type": "CreateTime", "max.message.bytes": "1000"},
        clean: {"cleanup.policy": "compact"},
        failures: {"max.message.bytes": str(2 * MAX_MESSAGE_BYTES)},
    }
    for name, config in odd.items():
        configure(pipeline_settings, ResourceType.TOPIC, name, config)

    def taken_over() -> bool:
        now = configured(pipeline_settings)
        return all(now[name][one] == value for name, config in odd.items() for one, value in config.items())

    eventually(taken_over, what="the broker has taken it over")
    assert set_configuration(pipeline_settings) == {
        raw: {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE_BYTES)},
        clean: {"cleanup.policy": "delete"},
    }
    eventually(lambda: not set_configuration(pipeline_settings), what="all is as it is declared")
    assert configured(pipeline_settings)[failures]["max.message.bytes"] == str(2 * MAX_MESSAGE_BYTES)


async def test_a_topic_whose_records_have_no_time_is_not_empty(settings: Settings) -> None:
    admin, topic = admin_client(settings), settings.named("customers.raw")
    admin.create_topics([NewTopic(topic, 3, 1, config={"message.timestamp.type": "CreateTime"})])[topic].result()
    looks = eventually(lambda: incarnations(settings, [topic]), what="the broker knows the topic")
    assert looks[topic].first_at is None
    await send_batch(settings, topic, batch([Record(b"1", b"{}", (), -1)]))
    assert incarnations(settings, [topic])[topic].first_at == 0


def test_the_topics_command_shows_a_topic_with_an_example(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(pipeline_settings).items():
        monkeypatch.setenv(name, value)

    def told(*arguments: str, expect: int = 0) -> str:
        done = CliRunner().invoke(topics, list(arguments))
        assert done.exit_code == expect, done.output
        return done.output

    def all_topics_are_there() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(told("--json"))
        return rows if all(row["partitions"] == pipeline_settings.topic_partitions for row in rows) else []

    rows = eventually(all_topics_are_there, what="the broker knows of the topics that it has made")
    assert [row["name"] for row in rows] == [pipeline_settings.named(topic.name) for topic in all_topics()]
    [row] = json.loads(told("customers.changed", "--json"))
    assert (row["value"], row["version"], row["kept_hours"]) == ("ChangeEvent", 1, 168)
    assert row["example"]["data"]["email"] == "ada@example.org"
    lines = told("failures").splitlines()
    assert "kept           28 d" in lines
    assert any(line.startswith("example        {") for line in lines)
    assert "28 d" in told()
    assert "no topic 'nope'" in told("nope", expect=2)
