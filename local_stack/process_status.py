"""The status of one process of a stack, whichever way the stack runs."""

from dataclasses import dataclass

DONE = "done"
"""The state of what was to run once, and has succeeded."""


@dataclass(frozen=True)
class ProcessStatus:
    """The word of the supervisor or Docker on a process, and the process's own answer."""

    name: str
    pid: int | None
    state: str
    """running: alive and serving. starting, unhealthy: alive and not serving. Otherwise the supervisor's word:
    backoff (died, will be tried again), stopped, exited, fatal (given up). In containers also: paused, and done."""
    port: int | None
    """None for a container that publishes none."""
    restarts: int
    """Since the stack was started: after it had died, or because it had stalled."""
    watchdog_restarts: int
    """Those of them that the watchdog asked for."""
    problem: str | None
    """None when it runs."""
    note: str | None = None
    """Work left undone though it runs: topics that are paused, and why."""

    @property
    def is_well(self) -> bool:
        return self.state in ("running", DONE)
