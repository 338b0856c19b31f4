"""Questions about runs, for commands; a Postgres that does not answer is told in a line."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from commands.trouble import answered_by
from runtime.settings import Settings
from services.runs import history

T = TypeVar("T")


def ask(settings: Settings, question: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """The answer to a question asked in one transaction. Blocking. Ends the command if Postgres cannot answer."""
    with answered_by("Postgres"):
        return asyncio.run(history.ask(settings, question))
