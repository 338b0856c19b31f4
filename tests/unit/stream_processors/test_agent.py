"""An agent hands batches to its stage, and an error in one ends the worker instead of losing the batch."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from stream_processors.app import _agent


class Stream:
    """A stream of batches of which nothing is acked unless the agent says so."""

    def __init__(self, *batches: list[Any]) -> None:
        self._batches = batches
        self.acks_disabled = False

    def noack(self) -> "Stream":
        self.acks_disabled = True
        return self

    async def events(self) -> AsyncIterator[Any]:
        for batch in self._batches:
            yield SimpleNamespace(value=batch)


class Stage:
    def __init__(self, error: BaseException | None = None) -> None:
        self.taken: list[list[Any]] = []
        self._error = error

    async def take(self, batch: list[Any], confirm: Callable[[], None]) -> None:
        assert callable(confirm)
        self.taken.append(batch)
        if self._error:
            raise self._error


async def test_every_batch_is_taken_and_none_is_acked_by_faust() -> None:
    stage: Any = Stage()
    stream = Stream([1, 2], [3])
    reported: list[BaseException] = []
    await _agent(stage, reported.append)(stream)
    assert reported == []
    assert stage.taken == [[1, 2], [3]]
    assert stream.acks_disabled


async def test_an_error_is_reported_before_faust_can_start_the_agent_again() -> None:
    stage: Any = Stage(error := RuntimeError("a bug"))
    reported: list[BaseException] = []
    with pytest.raises(RuntimeError, match="a bug"):
        await _agent(stage, reported.append)(Stream([1], [2]))
    assert reported == [error]
    assert stage.taken == [[1]], "what follows would be committed past the lost batch"
