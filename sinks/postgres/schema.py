"""Brings the schema to date before a sink starts to write."""

import asyncio

from runtime.errors import Backpressure
from runtime.settings import Settings
from sinks.postgres.verdicts import STORE, in_words, is_outage
from stores.migrate import is_starting, migrate
from stores.set_up_report import SetUpReport


async def setup_schema(settings: Settings) -> SetUpReport:
    """Bring the schema to date. Raises Backpressure while Postgres is not there."""
    try:
        return await asyncio.to_thread(migrate, settings)
    except Exception as error:
        if is_starting(error) or is_outage(error):
            raise Backpressure(STORE, in_words(error)) from error
        raise
