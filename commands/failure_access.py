"""The shared part of the `failures` commands: options that select failures, questions to Postgres, refusals."""

import asyncio
import datetime
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from commands.output import WRONG_USAGE, fail
from commands.trouble import answered_by
from runtime.errors import DeliveryFailed
from runtime.moments import moment
from runtime.patience import Patience
from runtime.settings import Settings
from services.failures.actions import MOST_ID, MOST_IDS
from services.failures.selection import Selection
from services.failures.settling import settled
from stores.failure_states import ActionRefused, CannotEdit, UnknownFailure

T = TypeVar("T")

ASK_AGAIN_SECONDS = 0.1


Ids = Annotated[
    list[int] | None,
    typer.Argument(min=1, max=MOST_ID, metavar="ID…", help="Failures or held records, or a filter instead."),
]
Names = list[str] | None


def selection(
    ids: Ids = None,
    dataset: Annotated[Names, typer.Option(metavar="NAME", help="Of this dataset (repeatable).")] = None,
    source: Annotated[Names, typer.Option(metavar="NAME", help="Of this source (repeatable).")] = None,
    reason: Annotated[Names, typer.Option(metavar="CODE", help="With this reason (repeatable).")] = None,
    key: Annotated[Names, typer.Option(metavar="KEY", help="Of this key (repeatable).")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Failed then or later: 30m, 2h, 1d ago, or ISO 8601.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Failed before that.")] = None,
) -> Selection:
    """The selection that these options make. Exits with code 2 for a wrong value."""
    if ids and len(ids) > MOST_IDS:
        fail(f"at most {MOST_IDS:,} ids at once; a filter may select more", WRONG_USAGE)
    return Selection(
        ids=tuple(ids or ()),
        datasets=tuple(dataset or ()),
        sources=tuple(source or ()),
        reasons=tuple(reason or ()),
        keys=tuple(key or ()),
        since=time_of("--since", since),
        until=time_of("--until", until),
    )


def selecting(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `selection`, but those, in the place of its first parameter."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        options = {name: one for name, one in inspect.signature(selection).parameters.items() if name not in without}
        _, *own = inspect.signature(command).parameters.values()

        @wraps(command)
        def selects(**given: Any) -> None:
            chosen = selection(**{name: given.pop(name) for name in options})
            command(chosen, **given)

        selects.__signature__ = inspect.Signature([*options.values(), *own])  # type: ignore[attr-defined] # for Typer
        return selects

    return with_options


def time_of(option: str, text: str | None) -> datetime.datetime | None:
    """The time that an option names, 30m ago or ISO 8601. Exits with code 2 for a wrong value."""
    if text is None:
        return None
    try:
        return moment(text, datetime.datetime.now(datetime.UTC))
    except ValueError as error:
        fail(f"{option} {error}", WRONG_USAGE)


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
