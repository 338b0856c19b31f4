"""The Faust app of the normalizer: one agent per dataset, on the batch transport."""

import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import faust
from confluent_kafka import Producer
from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials
from faust.types.events import EventT

from runtime.kafka.clients import producer_config
from runtime.kafka.security import KafkaSecurity
from runtime.settings import Settings
from schemas.registry import ingested_datasets
from stream_processors.batch_transport import Batch, BatchApp, confirm
from stream_processors.confirmations import Confirmations
from stream_processors.normalizer import NormalizerStage
from stream_processors.normalizer_metrics import Counts
from stream_processors.out_of_range import RESET

GROUP = "normalizer"

MAX_POLL_RECORDS = 2000
FETCH_BYTES = 524_288
"""Per partition and request, compressed. With BUFFERED_BATCHES it bounds what a worker holds while records wait."""
BUFFERED_BATCHES = 4
"""Batches that Faust holds ready per dataset; its default of 4096 lets latency grow to seconds."""
OUTSTANDING_BYTES = 16 * 1024 * 1024
"""Bytes of raw values whose outputs are not confirmed yet."""

SESSION_SECONDS = 10.0
"""A killed worker's partitions are free after this, unless it comes back sooner under the same WORKER_ID."""
COMMIT_SECONDS = 1.0

OnFailure = Callable[[BaseException], None]


def output_producer(settings: Settings) -> Producer:
    """The producer of normalized records. It waits for a lost broker for ever: the place in the group is kept."""
    ours = {
        "client.id": f"normalizer-{settings.worker_id}",
        "queue.buffering.max.kbytes": 32_768,
        "delivery.timeout.ms": 0,
    }
    return Producer(producer_config(settings, **ours))


def create_app(
    settings: Settings,
    producer: Producer,
    confirmations: Confirmations,
    counts: Counts,
    on_failure: OnFailure,
    stage_of: Callable[..., NormalizerStage] = NormalizerStage,
) -> faust.App:
    """Build the app; it connects when it is started. Call it on the event loop that will run it.

    `on_failure` is called when an agent raises: the caller must end the process then,
    without acknowledging anything further. `stage_of` makes the stage of a dataset, of NormalizerStage's arguments.
    """
    app = BatchApp(
        settings.named(GROUP),
        broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings.kafka_security),
        datadir=_data_folder(settings),
        # Topics are made by ours (runtime.kafka.topic_admin), with their own settings.
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset=RESET,
        consumer_group_instance_id=f"{settings.named(GROUP)}-{settings.worker_id}",
        consumer_max_fetch_size=FETCH_BYTES,
        broker_max_poll_records=MAX_POLL_RECORDS,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=SESSION_SECONDS / 4,
        broker_commit_interval=COMMIT_SECONDS,
        stream_buffer_maxsize=BUFFERED_BATCHES,
        stream_wait_empty=True,
        web_enabled=False,
    )
    for dataset in ingested_datasets():
        stage = stage_of(dataset, settings, producer, confirmations, counts)
        raw = app.topic(
            settings.named(dataset.raw_topic), key_type=bytes, value_type=bytes, value_serializer="raw", internal=False
        )
        app.agent(raw, name=f"normalize_{dataset.name}", concurrency=1)(_agent(stage, on_failure))
    return app


def _agent(stage: NormalizerStage, on_failure: OnFailure) -> Callable[[Any], Any]:
    async def normalize_batches(stream: Any) -> None:
        events: AsyncIterator[EventT[Any]] = stream.noack().events()
        async for event in events:
            try:
                await stage.take(cast("Batch", event.value), partial(confirm, event))
            except BaseException as error:
                # Faust would start the agent again, and go on behind the lost batch; a cancelled one is lost too.
                on_failure(error)
                raise

    return normalize_batches


def _credentials(security: KafkaSecurity) -> Credentials | None:
    config = security.aiokafka_config()
    context = config.get("ssl_context")
    if "sasl_oauth_token_provider" in config:
        return OAuthCredentials(oauth_cb=config["sasl_oauth_token_provider"], ssl_context=context)
    if "sasl_mechanism" in config:
        return SASLCredentials(
            username=config["sasl_plain_username"],
            password=config["sasl_plain_password"],
            mechanism=config["sasl_mechanism"],
            ssl_context=context,
        )
    return SSLCredentials(context) if context else None


def _data_folder(settings: Settings) -> Path:
    """Faust insists on a folder of its own; nothing that matters is kept in it."""
    folder = settings.home / "run" / f"faust-{settings.named(GROUP)}-{settings.worker_id}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="headrace-faust-"))
    return folder.absolute()
