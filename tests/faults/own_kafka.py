"""Settings for a pipeline on a Kafka of the test's own; Postgres, Redis and Elasticsearch are those of the others."""

from local_stack.servers import RunningServers
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings
from tests.waiting import eventually


def settings_on(kafka: RunningServers, migrated_settings: Settings, copies: int) -> Settings:
    """The same with all topics on that Kafka, in so many copies."""
    servers = kafka.addresses["KAFKA_BOOTSTRAP_SERVERS"]
    settings = migrated_settings.model_copy(update={"kafka_bootstrap_servers": servers, "topic_replication": copies})
    eventually(lambda: ensure_topics(settings) or True, what="the broker takes topics")
    return settings
