"""Keeps pages up to date: one poll per question and process, shared by all who look, and none when nobody does."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from dashboard.api_client import Api, ApiProblem

log = structlog.get_logger()

FRESH_SECONDS = 1.0
"""A page that opens takes an answer that is not older, so that ten pages that open together ask once."""


@dataclass(frozen=True)
class Answer:
    """The API's answer to a question, and when it came (monotonic seconds). One of `data` and `problem` is None."""

    data: Any
    problem: ApiProblem | None
    at: float


Listener = Callable[[Answer], None]


@dataclass
class _Watched:
    listeners: dict[Listener, float] = field(default_factory=dict)
    """Each with the seconds between two answers that it asks for."""
    latest: Answer | None = None
    task: asyncio.Task[None] | None = None
    asking: asyncio.Task[Answer] | None = None


class Live:
    """Answers of the API that change. Only for the event loop's thread."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._watched: dict[str, _Watched] = {}

    @property
    def polls(self) -> int:
        """Number of questions that are asked again and again now; 0 when nobody looks."""
        return sum(watched.task is not None for watched in self._watched.values())

    async def ask(self, path: str) -> Answer:
        """The answer as it is now, at most FRESH_SECONDS old. Whoever asks at the same time shares it."""
        watched = self._watched.setdefault(path, _Watched())
        if watched.latest and time.monotonic() - watched.latest.at < FRESH_SECONDS:
            return watched.latest
        if watched.asking is None:
            watched.asking = asyncio.create_task(self._asked(path, watched))
        # Shielded: a page that is closed does not take the answer from the others.
        return await asyncio.shield(watched.asking)

    def watch(self, path: str, every: float, listener: Listener) -> Callable[[], None]:
        """Call the listener with each answer from now on; what is returned ends that. Idempotent."""
        watched = self._watched.setdefault(path, _Watched())
        watched.listeners[listener] = every
        if watched.task is None:
            watched.task = asyncio.create_task(self._poll(path, watched))

        def stop() -> None:
            watched.listeners.pop(listener, None)
            if not watched.listeners and watched.task is not None:
                watched.task.cancel()
                watched.task = None
                if self._watched.get(path) is watched:
                    del self._watched[path]

        return stop

    async def close(self) -> None:
        """End every poll."""
        tasks = [watched.task for watched in self._watched.values() if watched.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, path: str, watched: _Watched) -> None:
        while True:
            answer = await self.ask(path)
            for listener in list(watched.listeners):
                try:
                    listener(answer)
                except Exception:  # a page that cannot show an answer keeps it from no other
                    log.exception("page_not_updated", path=path)
            await asyncio.sleep(min(watched.listeners.values(), default=1.0))

    async def _asked(self, path: str, watched: _Watched) -> Answer:
        try:
            answer = Answer(await self.api.get(path), None, time.monotonic())
        except ApiProblem as problem:
            answer = Answer(None, problem, time.monotonic())
        except Exception as error:  # else the poll ends, and nobody who looks is told anything any more
            log.exception("question_failed", path=path)
            answer = Answer(None, ApiProblem("The answer cannot be read", f"{path}: {error!r}"[:500]), time.monotonic())
        finally:
            watched.asking = None
        watched.latest = answer
        asyncio.get_running_loop().call_later(FRESH_SECONDS, self._forget, path, watched)
        return answer

    def _forget(self, path: str, watched: _Watched) -> None:
        """Keep no answer that nobody watches: pages are fetched that never come to life, each with its own question."""
        if not watched.listeners and watched.asking is None and self._watched.get(path) is watched:
            del self._watched[path]
