"""What a sink says of itself to the health server and to the watchdog."""

import time

import pytest

from monitoring.progress import Stall, to_restart
from sinks.state import CONFIRM_PATIENCE_SECONDS, SinkState

STALLED = [Stall("sink-elasticsearch", "users.changed", 0, 120.0, 3)]


def test_a_write_in_hand_explains_a_stall_until_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    state = SinkState("elasticsearch")

    def restarted() -> bool:
        return bool(to_restart(STALLED, {"it": {**state.details(), "assigned": ["users.changed/0"]}}))

    assert restarted()
    state.write_began()
    now += CONFIRM_PATIENCE_SECONDS - 1
    assert not restarted()
    now += 2
    assert restarted()
    assert "not answered a write for 31 s" in state.details()["problem"]
    state.wrote(1)
    assert "writing_seconds" not in state.details()
