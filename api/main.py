"""The entry point: puts the application together from the other stages. `uvicorn api.main:app` finds it here too."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import structlog
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from api import stages
from api.app import create_app
from api.ingest_runs import INGESTED_SOURCE
from api.stages import SourceUnavailable, Stages
from monitoring.lag import PartitionLag, read_lag
from producers.api.source import ApiSource
from producers.jsonl.deleted_keys import DeletedKeysSource
from producers.publish import publish
from producers.source import Source, SourceDescription, SourceFailed
from producers.sources import SourcesError, load_sources
from producers.webhook import deliveries as webhook_deliveries
from producers.webhook import signature as webhook_signature
from producers.webhook import webhooks
from producers.webhook.webhooks import Webhook, Webhooks
from runtime.errors import DeliveryFailed, SettingsError
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from schemas.dataset import Dataset
from services.audits.audit import audit as audit_records
from services.audits.audit import audit_json
from services.audits.moved_keys import moved_keys
from services.failures.failure_desk import FailureDesk
from services.runs.etl_run import publish_run
from services.runs.run import EtlRun, Published
from stores.coverage import read_apart
from stores.unavailable import Unavailable
from stream_processors.trial import normalize_anew, try_record

log = structlog.get_logger()


def assemble(settings: Settings) -> FastAPI:
    """The application with the real producers and the real lag. Opens nothing."""

    async def publish_customers(run: EtlRun) -> Published:
        source = await asyncio.to_thread(_customers_source, settings)
        try:
            report = await publish_run(run, source, settings, checkpoint="anew")
        except SourceFailed as error:
            raise SourceUnavailable(_address(source), error.reason) from error
        except DeliveryFailed as error:
            raise Unavailable("kafka", str(error)) from error
        return Published(report.published, report.offsets)

    async def delete_record(dataset: Dataset, key: str) -> Published:
        source = DeletedKeysSource(SourceDescription("api", "push", dataset), (key,))
        try:
            report = await publish(source, settings)
        except DeliveryFailed as error:
            raise Unavailable("kafka", str(error)) from error
        return Published(report.published, report.offsets)

    async def lag() -> list[PartitionLag]:
        return await read_lag(settings)

    async def audit(engine: AsyncEngine) -> dict[str, Any]:
        rows, moved = await audit_records(settings, engine), await moved_keys(engine)
        async with engine.connect() as connection:
            return audit_json(rows, moved, await read_apart(connection))

    desk = FailureDesk(settings, try_record, normalize_anew)
    hooks = _Webhooks(Webhooks(settings))
    return create_app(settings, Stages(publish_customers, delete_record, lag, audit, desk, hooks))


@dataclass(frozen=True)
class _Webhook:
    """A webhook whose verdicts are in the API's words."""

    hook: Webhook

    @property
    def max_bytes(self) -> int:
        return self.hook.max_bytes

    @property
    def dataset(self) -> str:
        return self.hook.dataset

    async def accept(self, body: bytes, headers: Mapping[str, str]) -> int:
        try:
            return await self.hook.accept(body, headers)
        except webhook_signature.SignatureRefused as error:
            raise stages.SignatureRefused(str(error)) from error
        except webhooks.BodyRefused as error:
            raise stages.BodyRefused(str(error)) from error
        except webhooks.TooManyRecords as error:
            raise stages.TooManyRecords(str(error)) from error
        except webhook_deliveries.KeyRefused as error:
            raise stages.KeyRefused(str(error)) from error
        except webhook_deliveries.KeyReused as error:
            raise stages.KeyReused(str(error)) from error
        except webhook_deliveries.DeliveryUnderWay as error:
            raise stages.DeliveryUnderWay(str(error)) from error
        except DeliveryFailed as error:
            # Senders are strangers: where our servers are is for the log.
            log.warning("webhook_not_confirmed", source=self.hook.source.description.name, reason=str(error))
            raise Unavailable("kafka", "not every record has been confirmed") from error


@dataclass(frozen=True)
class _Webhooks:
    hooks: Webhooks

    async def named(self, name: str) -> _Webhook | None:
        try:
            hook = await self.hooks.named(name)
        except SourcesError as error:
            raise Unavailable("sources", "this source is misconfigured; the log of this server says how") from error
        return None if hook is None else _Webhook(hook)

    async def close(self) -> None:
        await self.hooks.close()


def _customers_source(settings: Settings) -> Source:
    try:
        return load_sources(settings.sources_file, settings)[INGESTED_SOURCE]
    except SourcesError as error:
        raise SourceUnavailable(str(settings.sources_file), str(error)) from error
    except KeyError:
        message = f"there is no block [sources.{INGESTED_SOURCE}] in it; add one, with kind and url"
        raise SourceUnavailable(str(settings.sources_file), message) from None


def _address(source: Source) -> str:
    return source.block.url if isinstance(source, ApiSource) else source.description.name


@cache
def _app() -> FastAPI:
    """What `uvicorn api.main:app` serves. Wrong settings end the process with a line each, as for every command."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.exit(str(error))
    configure_logging(settings, "api")
    # uvicorn would write a line of its own beside ours for every request.
    logging.getLogger("uvicorn.access").disabled = True
    return assemble(settings)


def __getattr__(name: str) -> FastAPI:
    # Made when it is asked for, so that importing this module reads no settings.
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
