"""One question to the table of runs, for commands; a Postgres that does not answer is said in a line."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from commands.trouble import answered_by
from runtime.settings import Settings

T = TypeVar("T")

CONNECT_SECONDS = 10


def ask(settings: Settings, question: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """The answer to a question asked in one transaction. Blocking. Ends the command if Postgres cannot answer."""
    with answered_by("Postgres"):
        return asyncio.run(_ask(settings, question))


async def _ask(settings: Settings, question: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    engine = create_async_engine(settings.async_database_url, connect_args={"timeout": CONNECT_SECONDS})
    try:
        async with engine.begin() as connection:
            return await question(connection)
    finally:
        await engine.dispose()
