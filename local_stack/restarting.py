"""Restarts processes of a running stack, with the settings as they are now."""

from collections.abc import Sequence
from pathlib import Path

from local_stack.errors import StackError
from local_stack.programs import role_instances
from local_stack.progress import Steps
from local_stack.settings_of_processes import write_variables
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.supervisor import Supervisor
from local_stack.waiting import start_and_wait
from local_stack.watched import watched_processes

START_TIMEOUT_SECONDS = 120.0


def restart_processes(state: StateFolder, names: Sequence[str], steps: Steps) -> list[str]:
    """Stop these processes, start them again, and wait until each is healthy; returns their names. Blocking.

    Names are those of `headrace status`; a role's name means all of its processes; none means all processes of ours.
    Raises StackError for an unknown name before anything is stopped, and for a process that does not become healthy.
    """
    supervisor = Supervisor(state)
    if not supervisor.is_running():
        raise StackError(f"No stack is running in {state.home}.", remedy="Start one with: headrace up")
    with state.only_one("restart"):
        record = state.read_record()
        chosen = choose(record, names)
        write_variables(state, Path(record.folder))
        stop_and_start(state, supervisor, record, chosen, steps)
        return chosen


def choose(record: StackRecord, names: Sequence[str]) -> list[str]:
    """The processes that are meant, in order of starting. Pure. Raises StackError."""
    known = [one.name for one in watched_processes(record)]
    ours = {one.name: one.role.name for one in ([] if record.servers_only else role_instances(record))}
    if strangers := [name for name in names if name not in known and name not in ours.values()]:
        raise StackError(f"There is no process {strangers[0]!r}.", remedy=f"There are: {', '.join(known)}.")
    wanted = set(names) or set(ours)
    return [name for name in known if name in wanted or ours.get(name) in wanted]


def stop_and_start(
    state: StateFolder, supervisor: Supervisor, record: StackRecord, names: Sequence[str], steps: Steps
) -> None:
    """Let these processes finish what they have in hand, and start them again. The lock of the folder must be held."""
    watched = [one for one in watched_processes(record) if one.name in names]
    what = ", ".join(names)
    with steps.step("stop", f"stopping {what}", f"{what} stopped"):
        supervisor.stop_programs([one.name for one in reversed(watched)])
    start_and_wait(state, supervisor, watched, steps, timeout_seconds=START_TIMEOUT_SECONDS, restarts_allowed=2)
