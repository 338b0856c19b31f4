"""Brings the schema to date before a sink starts to write."""

import asyncio

from runtime.errors import Backpressure
from runtime.settings import Settings
from stores.migrate import SchemaReport, migrate
from stores.outages import STORE, in_words, is_outage


async def setup_schema(settings: Settings) -> SchemaReport:
    """Bring the schema to date. Raises Backpressure while Postgres is not there."""
    try:
        return await asyncio.to_thread(migrate, settings)
    except Exception as error:
        if is_outage(error):
            raise Backpressure(STORE, in_words(error)) from error
        raise
