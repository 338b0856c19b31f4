"""How the `failures` commands reach Postgres, whom they act for, and how refusals are said."""

import asyncio
import getpass
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from commands.output import fail
from commands.trouble import answered_by
from runtime.errors import DeliveryFailed
from runtime.settings import Settings
from services.failures.failure_desk import FailureDesk
from services.failures.settling import settle
from stores.failure_states import ActionRefused, CannotEdit, UnknownFailure
from stream_processors.trial import normalize_anew, try_record

T = TypeVar("T")


def desk(settings: Settings) -> FailureDesk:
    """The desk with the real normalizer behind it."""
    return FailureDesk(settings, try_record, normalize_anew)


def who() -> str:
    """The user of this machine, as an action's author."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def ask(settings: Settings, question: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """The answer of a question to Postgres, in one transaction, after what was replayed has been settled."""

    async def answer() -> T:
        engine = create_async_engine(settings.async_database_url)
        try:
            async with engine.begin() as connection:
                await settle(connection, settings.replay_limit)
                return await question(connection)
        finally:
            await engine.dispose()

    return run(answer())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. What is refused or cannot be reached is said, and ends the command with exit code 1."""
    try:
        with answered_by("Postgres", soon=False):
            return asyncio.run(work)
    except (ActionRefused, UnknownFailure, CannotEdit, DeliveryFailed) as error:
        fail(str(error))
