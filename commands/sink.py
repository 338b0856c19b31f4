"""`headrace sink …`: the consumers that bring topics into the stores.

Each function imports its own sink: with the clients of the other stores it would take twice as long to start.
"""

from functools import partial

import typer

from commands.output import stderr
from rehearsals.sinks import rehearsed_sink
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from sinks.runner import run_sink

sink = typer.Typer(no_args_is_help=True, help="Run one of the sinks until it is stopped. `headrace up` runs all.")


@sink.command()
def postgres() -> None:
    """Merge clean records and failures into Postgres, and publish what changed.

    Example:

      HEALTH_PORT=8101 headrace sink postgres
    """
    from sinks.postgres.sink import PostgresSink

    settings = _start("postgres")
    run_sink(rehearsed_sink("postgres", PostgresSink, settings), settings)


@sink.command()
def landing() -> None:
    """Keep every raw record, untouched, in raw_api_data and raw_csv_data.

    Example:

      headrace sink landing
    """
    from sinks.landing import LandingSink

    settings = _start("landing")
    run_sink(LandingSink(settings), settings)


@sink.command()
def elasticsearch() -> None:
    """Follow the changes of Postgres in the search indices.

    Example:

      ELASTICSEARCH_URL=http://127.0.0.1:9200 headrace sink elasticsearch
    """
    from sinks.elasticsearch import ElasticsearchSink

    settings = _start("elasticsearch")
    if settings.elasticsearch_url is None:
        stderr.print(
            "ELASTICSEARCH_URL is `none`: there is nothing to index into, and search answers from Postgres. "
            "Set it to the URL of an Elasticsearch and start this again; it catches up from the topics.",
            markup=False,
        )
        return
    build = partial(ElasticsearchSink, url=settings.elasticsearch_url)
    run_sink(rehearsed_sink("elasticsearch", build, settings), settings)


@sink.command()
def redis() -> None:
    """Invalidate cached records as they change.

    Example:

      headrace sink redis
    """
    from sinks.redis_invalidation import RedisInvalidationSink

    settings = _start("redis")
    if settings.redis_url is None:
        stderr.print(
            "REDIS_URL is `none`: there is no cache to keep fresh, and reads come from Postgres. "
            "Set it to the URL of a Redis and start this again; it catches up from the topics.",
            markup=False,
        )
        return
    run_sink(rehearsed_sink("redis", RedisInvalidationSink, settings), settings)


def _start(name: str) -> Settings:
    settings = load_settings()
    configure_logging(settings, f"sink-{name}")
    return settings
