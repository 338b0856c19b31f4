"""Waits until processes serve, and tells at once, with their last words, when one has died instead."""

import time
from collections.abc import Callable, Mapping, Sequence

from local_stack.errors import StackError
from local_stack.progress import Steps
from local_stack.restarts import History, read_history
from local_stack.server import last_lines, size_of
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from local_stack.watched import Watched, ask

POLL_SECONDS = 0.2


def start_and_wait(
    state: StateFolder,
    supervisor: Supervisor,
    watched: list[Watched],
    steps: Steps,
    *,
    timeout_seconds: float,
    restarts_allowed: int,
) -> None:
    """Start these programs and return when each serves; shows each as a step. Raises as `wait_until_well` does."""
    for one in watched:
        steps.begin(one.name, "starting")
    log_sizes = {one.name: size_of(state.log(one.name)) for one in watched}
    supervisor.start_programs([one.name for one in watched])
    wait_until_well(
        state,
        watched,
        timeout_seconds=timeout_seconds,
        restarts_allowed=restarts_allowed,
        log_sizes=log_sizes,
        well=lambda one: steps.done(one.name, f"healthy on port {one.port}"),
    )


def wait_until_well(
    state: StateFolder,
    watched: Sequence[Watched],
    *,
    timeout_seconds: float,
    restarts_allowed: int,
    log_sizes: Mapping[str, int],
    well: Callable[[Watched], None],
) -> None:
    """Return when each of them serves; `well` is called with each that does. `log_sizes`: before they were started.

    Raises StackError with its last log lines when one has died more often than allowed since the call, was given up by
    the supervisor, or does not serve in time.
    """
    supervisor = Supervisor(state)
    before = read_history(state.supervisor_log)
    waiting = {one.name: one for one in watched}
    deadline = time.monotonic() + timeout_seconds
    problems: dict[str, str | None] = {}
    while waiting:
        problems = ask(waiting.values())
        known = {process.name: process for process in supervisor.processes()}
        history = read_history(state.supervisor_log)
        for name, problem in problems.items():
            if problem is None and known[name].pid:
                well(waiting.pop(name))
                continue
            deaths = history.get(name, History()).restarts - before.get(name, History()).restarts
            if known[name].state in ("BACKOFF", "EXITED", "FATAL"):
                deaths += 1
            if deaths > restarts_allowed or known[name].state == "FATAL":
                raise _died(state, name, log_sizes[name])
        if waiting and time.monotonic() > deadline:
            name = next(iter(waiting))
            raise StackError(
                f"{name} did not become healthy within {timeout_seconds:.0f} s: {problems[name]}.",
                log_lines=last_lines(state.log(name), since=log_sizes[name]),
                remedy=f"Its whole log: {state.log(name)}",
            )
        if waiting:
            time.sleep(POLL_SECONDS)


def _died(state: StateFolder, name: str, log_size: int) -> StackError:
    lines = last_lines(state.log(name), since=log_size)
    remedy = _advice(lines) or f"Its whole log: {state.log(name)}"
    return StackError(f"{name} died at start.", log_lines=lines, remedy=remedy)


def _advice(lines: Sequence[str]) -> str | None:
    """What to do about the causes that servers name themselves."""
    text = "\n".join(lines)
    if "No space left on device" in text:
        return "The disk is full: free some space, or move the stack with HEADRACE_HOME=/elsewhere."
    if "Address already in use" in text or "could not bind" in text or "BindException" in text:
        return "Another process took its port meanwhile: `headrace up --free-ports` finds free ones."
    if "OutOfMemoryError" in text or "Cannot allocate memory" in text:
        return "There is too little memory: the stack needs about 2.5 GB free."
    return None
