"""Our own processes: a table of the roles, and what each needs to run as one supervised program."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from local_stack.server import NoAnswer, get, listens
from local_stack.state_folder import StackRecord
from schemas.sinks import SINKS

PROJECT = Path(__file__).parent.parent
"""The folder that holds cli.py: the checkout, or site-packages."""

HEALTH_PORT_BASE = 8101

MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""Have glibc give memory back: a batch's buffers, freed by many threads, otherwise stay with the process as holes."""

INSTANCES_APART = 10
"""Instance n of a role answers on its role's health port + 10 n, so that ten roles fit between two instances."""


class Tier(IntEnum):
    """Started in this order and stopped in the opposite one."""

    SERVERS = 1
    WORKERS = 2
    FRONT = 3


@dataclass(frozen=True)
class Role:
    """A kind of process of ours."""

    name: str
    arguments: tuple[str, ...]
    tier: Tier
    port_variable: str | None = None
    """The variable of its own port; None for workers, which answer on a health port."""
    health_path: str = "/health"
    needs: str | None = None
    """The server without which it has nothing to do, where a stack may lack that one."""
    scalable: bool = False
    """Several may share the work, as members of a consumer group that is named like the role."""


ROLES = (
    Role("mock-server", ("mock-server",), Tier.FRONT, port_variable="MOCK_PORT", health_path="/api/health"),
    Role("api", ("api",), Tier.FRONT, port_variable="API_PORT", health_path="/api/health"),
    Role("dashboard", ("dashboard",), Tier.FRONT, port_variable="DASHBOARD_PORT"),
    Role("normalizer", ("normalizer",), Tier.WORKERS, scalable=True),
    *(Role(sink.group, ("sink", sink.name), Tier.WORKERS, needs=sink.needs, scalable=True) for sink in SINKS),
    # It is stopped before the workers, so that it starts none of them again while they are being stopped.
    Role("watchdog", ("watchdog",), Tier.FRONT),
    Role("relay", ("relay",), Tier.WORKERS),
    Role("scheduler", ("scheduler",), Tier.FRONT),
    Role("monitor", ("monitor",), Tier.FRONT),
)

SCALABLE = {role.name.removeprefix("sink-"): role.name for role in ROLES if role.scalable}
"""By the short name: that of a sink is its own."""


@dataclass(frozen=True)
class Instance:
    """One process of a role."""

    role: Role
    number: int
    port: int

    @property
    def name(self) -> str:
        return self.role.name if self.number == 0 else f"{self.role.name}-{self.number}"

    def command(self) -> list[str]:
        return own_command(*self.role.arguments)

    def environment(self) -> dict[str, str]:
        own = {"WORKER_ID": str(self.number), "PYTHONUNBUFFERED": "1", **MALLOC}
        if self.role.port_variable is None:
            own["HEALTH_PORT"] = str(self.port)
        return own

    def problem(self) -> str | None:
        """Ask the process itself: None when it is healthy, otherwise what it says. Blocks 3 s at most."""
        if not listens(self.port):
            return f"nothing listens on port {self.port}"
        try:
            status, said = self._ask()
        except NoAnswer as error:
            return str(error)
        if status == 200:
            return None
        reason = next((said[key] for key in ("problem", "reason", "detail", "status") if said.get(key)), said)
        return f"answers {status}" + (f": {reason}" if reason else "")

    def health(self) -> dict[str, Any] | None:
        """The JSON object that it answers about its health; None if it does not. Blocks 3 s at most."""
        try:
            return self._ask()[1] or None
        except NoAnswer:
            return None

    def note(self) -> str | None:
        """Topics that a healthy worker has paused, and why; None without any. Blocks 3 s at most."""
        paused = {} if self.role.port_variable else (self.health() or {}).get("paused") or {}
        return "; ".join(f"{topic} is paused: {reason}" for topic, reason in paused.items()) or None

    def _ask(self) -> tuple[int, dict[str, Any]]:
        status, said = get(self.port, self.role.health_path)
        return status, said if isinstance(said, dict) else {}


def port_defaults(counts: Mapping[str, int] | None = None, base: int = HEALTH_PORT_BASE) -> dict[str, int]:
    """The customary health port of every worker instance, by the name under which it is remembered.

    `counts` are instances of a role; roles that are not named have one.
    """
    workers = [role for role in ROLES if role.port_variable is None]
    return {
        _port_name(role, number): base + place + INSTANCES_APART * number
        for place, role in enumerate(workers)
        for number in range((counts or {}).get(role.name, 1))
    }


def role_instances(record: StackRecord) -> list[Instance]:
    """Every process of ours in a stack, in order of starting.

    A stack that an older version has started has no port for a role that is newer: it has none of it until `up`.
    """
    found = [
        Instance(role, number, record.ports[port])
        for role in ROLES
        if role.needs not in record.without
        for number in range(record.counts.get(role.name, 1))
        if (port := role.port_variable or _port_name(role, number)) in record.ports
    ]
    return sorted(found, key=lambda instance: instance.role.tier)


def health_of_group(record: StackRecord, group: str) -> dict[str, dict[str, Any] | None]:
    """The health of each process of a consumer group, by its name; None for one that does not answer. Blocking."""
    members = [one for one in role_instances(record) if one.role.name == group and one.role.scalable]
    return {one.name: one.health() for one in members}


def _port_name(role: Role, number: int) -> str:
    name = role.name.upper().replace("-", "_")
    return f"{name}_HEALTH_PORT" if number == 0 else f"{name}_{number}_HEALTH_PORT"


def own_command(*arguments: str) -> list[str]:
    """A command line that runs this installation's `headrace` with these arguments."""
    # -P: a folder called `api` where headrace was called from must not shadow ours.
    return [sys.executable, "-P", "-m", "cli", *arguments]


def python_path() -> str:
    """PYTHONPATH under which `own_command` finds this installation, wherever it is called from."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([str(PROJECT), *filter(None, known)]))
