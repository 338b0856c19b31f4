"""Stacks that start at the same time, on real sockets."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_stack import addresses as ports
from local_stack.addresses import assign_ports, claim

FOUR = {"A": 0, "B": 0, "C": 0, "D": 0}
FEW = range(12_100, 12_108)
"""Which no stack and no other test is given."""

CHOOSE_AND_WAIT = f"""
import json, sys
from local_stack import addresses as ports
ports.FREE_RANGE = {FEW!r}
print(json.dumps(ports.assign_ports({FOUR!r}, environment={{}}, remembered={{}}, free=True)), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_start() -> Iterator[dict[str, int]]:
    """The ports that another process has chosen, which doesn't listen on any of them yet."""
    with subprocess.Popen(
        [sys.executable, "-c", CHOOSE_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        yield json.loads(other.stdout.readline())
        other.communicate()


def test_stacks_that_start_at_the_same_time_choose_different_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "FREE_RANGE", FEW)
    with another_start() as theirs:
        ours = assign_ports(FOUR, environment={}, remembered={}, free=True)
        assert sorted([*ours.values(), *theirs.values()]) == list(FEW)


def test_a_claimed_port_is_free_again_once_the_claiming_process_has_ended() -> None:
    with another_start() as theirs:
        assert not claim(theirs["A"])
    assert claim(theirs["A"])


def test_a_port_that_somebody_listens_on_is_not_claimed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not claim(listener.getsockname()[1])
