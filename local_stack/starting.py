"""Starts processes and waits until they serve; tells at once, with its last words, when one has died instead."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from local_stack.errors import StackError
from local_stack.log_reading import last_lines, size_of
from local_stack.process_status import History, read_history
from local_stack.processes import StackProcess, all_processes, ask
from local_stack.programs import own_command, role_instances
from local_stack.settings_of_processes import write_variables
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.steps import Steps
from local_stack.supervisor import Supervisor

POLL_SECONDS = 0.2
START_TIMEOUT_SECONDS = 120.0
STOP_SECONDS = 10.0


def start_and_wait(
    state: StateFolder,
    supervisor: Supervisor,
    processes: Sequence[StackProcess],
    steps: Steps,
    *,
    timeout_seconds: float = START_TIMEOUT_SECONDS,
    restarts_allowed: int = 2,
) -> None:
    """Start these programs and return when each serves; shows each as a step.

    Raises StackError with its last log lines when one has died more often than allowed since the call, was given up by
    the supervisor, or does not serve in time.
    """
    for one in processes:
        steps.begin(one.name, "starting")
    log_sizes = {one.name: size_of(state.log(one.name)) for one in processes}
    supervisor.start_programs([one.name for one in processes])
    before = read_history(state.supervisor_log)
    waiting = {one.name: one for one in processes}
    deadline = time.monotonic() + timeout_seconds
    while waiting:
        problems = ask(waiting.values())
        known = supervisor.processes()
        history = read_history(state.supervisor_log)
        for name, problem in problems.items():
            if problem is None and known[name].pid:
                steps.done(name, f"healthy on port {waiting.pop(name).port}")
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
    """A remedy for causes that servers name themselves."""
    text = "\n".join(lines)
    if "No space left on device" in text:
        return "The disk is full: free some space, or move the stack with HEADRACE_HOME=/elsewhere."
    if "Address already in use" in text or "could not bind" in text or "BindException" in text:
        return "Another process took its port meanwhile: `headrace up --free-ports` finds free ones."
    if "OutOfMemoryError" in text or "Cannot allocate memory" in text:
        return "There is too little memory: the stack needs about 2.5 GB free."
    return None


def restart_processes(state: StateFolder, names: Sequence[str], steps: Steps) -> list[str]:
    """Stop these processes, start them again, and wait until each is healthy; returns their names. Blocking.

    Names are those of `headrace status`; a role's name means all of its processes; none means all processes of ours.
    Raises StackError for an unknown name before anything is stopped, and for a process that does not become healthy.
    """
    supervisor = Supervisor(state)
    supervisor.require_running()
    with state.only_one("restart"):
        record = state.read_record()
        chosen = choose(record, names)
        write_variables(state, Path(record.folder))
        processes = [one for one in all_processes(record) if one.name in chosen]
        what = ", ".join(chosen)
        with steps.step("stop", f"stopping {what}", f"{what} stopped"):
            supervisor.stop_programs(chosen[::-1])
        start_and_wait(state, supervisor, processes, steps)
        return chosen


def choose(record: StackRecord, names: Sequence[str]) -> list[str]:
    """The processes that these names mean, in order of starting. Pure. Raises StackError for an unknown one."""
    known = [one.name for one in all_processes(record)]
    ours = {one.name: one.role.name for one in ([] if record.servers_only else role_instances(record))}
    if strangers := [name for name in names if name not in known and name not in ours.values()]:
        raise StackError(f"There is no process {strangers[0]!r}.", remedy=f"There are: {', '.join(known)}.")
    wanted = set(names) or set(ours)
    return [name for name in known if name in wanted or ours.get(name) in wanted]


def run_logged(arguments: tuple[str, ...], environment: Mapping[str, str], log: Path) -> None:
    """Run `headrace ARGUMENTS` and append its output to the log. Blocking.

    Raises StackError with its last lines when it fails.
    """
    begin = size_of(log)
    with log.open("ab") as output:
        code = run_headrace(arguments, environment, output.fileno())
    if code != 0:
        raise StackError(
            f"`headrace {' '.join(arguments)}` failed (exit code {code}).",
            log_lines=last_lines(log, since=begin),
            remedy=f"Its whole output: {log}",
        )


def run_headrace(arguments: tuple[str, ...], environment: Mapping[str, str], output: int | None = None) -> int:
    """Run `headrace ARGUMENTS`, on our own terminal without an `output`; its exit code. Blocking."""
    process = subprocess.Popen(
        own_command(*arguments),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
    )
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
