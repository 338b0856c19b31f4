"""Access of the `failures` commands to Postgres, the author of their actions, and the way refusals are told."""

import asyncio
import getpass
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from commands.output import fail
from commands.trouble import answered_by
from runtime.errors import DeliveryFailed
from runtime.patience import Patience
from runtime.settings import Settings
from services.failures.settling import settled
from stores.failure_states import ActionRefused, CannotEdit, UnknownFailure

T = TypeVar("T")

ASK_AGAIN_SECONDS = 0.1


def who() -> str:
    """The user of this machine, as an action's author."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def ask(settings: Settings, question: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """The answer of a question to Postgres, in one transaction, after replayed failures have been settled."""

    async def answer() -> T:
        async with settled(settings) as connection:
            return await question(connection)

    return run(answer())


def ask_until(
    settings: Settings, question: Callable[[AsyncConnection], Awaitable[T]], left: Callable[[T], int], seconds: float
) -> T:
    """Ask again until nothing is left by the answer, or for so many seconds no less than before; the last answer."""
    patience = Patience(seconds)
    while True:
        answer = ask(settings, question)
        patience.note(left(answer))
        if not left(answer) or not patience.remaining:
            return answer
        time.sleep(ASK_AGAIN_SECONDS)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. A refusal, or a server out of reach, is told and ends the command with exit code 1."""
    try:
        with answered_by("Postgres", soon=False):
            return asyncio.run(work)
    except (ActionRefused, UnknownFailure, CannotEdit, DeliveryFailed) as error:
        fail(str(error))
