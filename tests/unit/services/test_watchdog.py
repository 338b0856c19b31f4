"""The watchdog restarts what has stalled, and leaves alone what says why, or has only just gone on."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from monitoring.lag import PartitionLag
from runtime.settings import Settings
from services import watchdog
from services.watchdog import Watchdog

STALL_SECONDS = 5


class Scene:
    """A group that commits nothing, seen at moments of the test's choice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self.now = 100.0
        self.answer: dict[str, Any] | None = {"state": "running", "assigned": ["clean/0"]}
        self.restarted: list[str] = []
        monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(watchdog, "read_lag", self._lag)
        monkeypatch.setattr(watchdog, "health_of_group", lambda *_: {"sink-redis": self.answer})
        monkeypatch.setattr(Supervisor, "restart_stalled", lambda _, names: self._restart(names))
        state = StateFolder(home)
        state.run.mkdir()
        state.logs.mkdir()
        self.dog = Watchdog(Settings(watchdog_stall_seconds=STALL_SECONDS), state)

    async def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            await self.dog.check()

    async def _lag(self, _: Settings) -> list[PartitionLag]:
        return [PartitionLag("sink-redis", "clean", 0, committed=7, end=9, lag=2)]

    def _restart(self, names: Sequence[str]) -> bool:
        self.restarted += names
        return True


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scene:
    return Scene(monkeypatch, tmp_path)


async def test_a_group_that_commits_nothing_is_restarted_after_the_limit(scene: Scene) -> None:
    await scene.pass_seconds(STALL_SECONDS)
    assert scene.restarted == []
    await scene.pass_seconds(1)
    assert scene.restarted == ["sink-redis"]


async def test_a_sink_that_waits_for_its_store_is_spared_and_has_the_whole_limit_once_it_goes_on(scene: Scene) -> None:
    scene.answer = {"state": "waiting_for_store", "assigned": ["clean/0"]}
    await scene.pass_seconds(3 * STALL_SECONDS)
    scene.answer = {"state": "running", "assigned": ["clean/0"]}
    await scene.pass_seconds(STALL_SECONDS - 1)
    assert scene.restarted == []
    await scene.pass_seconds(1)
    assert scene.restarted == ["sink-redis"]
