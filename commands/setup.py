"""`headrace setup`: migrations, topics and indices, before the first process starts."""

import asyncio

from confluent_kafka import KafkaException
from elasticsearch import AsyncElasticsearch

from commands.output import fail, stderr, stdout
from data.generate import RAW_FILE, make_raw_file
from runtime.epochs import note_epochs
from runtime.kafka_clients import reason
from runtime.migrate import migrate
from runtime.search_index import ensure_indices
from runtime.settings import Settings, load_settings
from runtime.topic_admin import ensure_topics


def setup() -> None:
    """Apply the database migrations, create missing topics and search indices, make the sample sales (data/raw.csv).

    Idempotent; `headrace up` calls it.

    Example:

      headrace setup
    """
    settings = load_settings()
    migrate(settings)
    stdout.print("postgres: schema is current")
    try:
        created = ensure_topics(settings)
    except KafkaException as error:
        fail(f"topics could not be created on Kafka at {settings.kafka_bootstrap_servers}: {reason(error)}")
    stdout.print(f"kafka: {len(created)} topics created" if created else "kafka: all topics exist")
    asyncio.run(note_epochs(settings))
    if settings.elasticsearch_url is None:
        stdout.print("elasticsearch: none; search answers from Postgres")
    else:
        asyncio.run(_ensure_indices(settings, settings.elasticsearch_url))
        stdout.print("elasticsearch: indices are current")
    _make_sample()


def _make_sample() -> None:
    try:
        made = make_raw_file()
    except OSError as error:  # an installation that may not be written to; only the source `orders` wants the file
        stderr.print(f"data: {RAW_FILE} cannot be made: {error.strerror or error}", markup=False)
    else:
        stdout.print(f"data: {RAW_FILE.name} made" if made else f"data: {RAW_FILE.name} is there")


async def _ensure_indices(settings: Settings, url: str) -> None:
    async with AsyncElasticsearch(url) as client:
        await ensure_indices(client, settings)
