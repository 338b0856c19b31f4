"""Changes the number of instances of roles in a running stack."""

from collections.abc import Mapping
from dataclasses import dataclass

from local_stack.errors import StackError
from local_stack.installations import SERVER_NAMES, find_installations
from local_stack.layout import record_while_running, servers_of, write_programs
from local_stack.processes import own_processes
from local_stack.programs import ROLES, SCALABLE, role_instances
from local_stack.starting import start_and_wait
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.steps import Steps
from local_stack.supervisor import Supervisor

MOST_INSTANCES = 100
"""Of one role on one machine: each is a process of some 100 MB, and each partition has one at most."""


@dataclass(frozen=True)
class Scaled:
    """The change to a stack. Names are those of `headrace status`."""

    counts: dict[str, int]
    """Instances that run now, of every role that was named."""
    added: list[str]
    removed: list[str]
    removed_workers: dict[str, list[str]]
    """Worker ids of the removed instances, by consumer group (without namespace)."""


def read_counts(words: list[str]) -> dict[str, int]:
    """`["normalizer=3", "postgres=2"]` as counts by role. Raises StackError that names the word that is wrong."""
    counts: dict[str, int] = {}
    for word in words:
        name, _, number = word.partition("=")
        role = name if name in SCALABLE.values() else SCALABLE.get(name)
        if role is None:
            raise StackError(f"{name!r} can't be scaled.", remedy=f"These can: {', '.join(SCALABLE)}.")
        if not (number.isascii() and number.isdecimal() and 1 <= int(number[:9]) <= MOST_INSTANCES):
            raise StackError(
                f"{word[:60]!r} is not a number of instances.",
                remedy=f"Give 1 to {MOST_INSTANCES}, for example {name}=2; `headrace down` stops all processes.",
            )
        if counts.get(role, int(number)) != int(number):
            raise StackError(f"{role} is named twice, as {counts[role]} and {number}.")
        counts[role] = int(number)
    return counts


def scale(state: StateFolder, wanted: Mapping[str, int], steps: Steps) -> Scaled:
    """Run as many instances of these roles as wanted, and remember it for the next `up`. Blocking.

    Returns when every new instance is healthy and every superfluous one has drained and ended. If a new one does not
    become healthy, the new ones are removed again and StackError is raised. Roles that are not named stay as they are.
    """
    supervisor = Supervisor(state)
    supervisor.require_running()
    with state.only_one("scale"):
        known = state.read_record()
        _refuse_what_is_not_there(known, wanted)
        record = record_while_running(known, {**known.counts, **wanted})
        before = {one.name: one for one in role_instances(known)}
        after = {one.name for one in role_instances(record)}
        added = sorted(after - before.keys())
        removed = [name for name in before if name not in after]
        _add(state, supervisor, known, record, added, steps)
        # From here on it holds: a stack that comes up again starts as many.
        state.write_record(record)
        _remove(supervisor, removed, steps)
        workers: dict[str, list[str]] = {}
        for name in removed:
            workers.setdefault(before[name].role.name, []).append(str(before[name].number))
        return Scaled({role: record.counts.get(role, 1) for role in wanted}, added, removed, workers)


def _refuse_what_is_not_there(known: StackRecord, wanted: Mapping[str, int]) -> None:
    if known.servers_only:
        raise StackError(
            "This stack runs its servers only.", remedy="Start our processes too: headrace up, without --servers-only"
        )
    for role in ROLES:
        if role.name in wanted and role.needs in known.without:
            why = known.without[role.needs]
            raise StackError(f"This stack has no {role.needs.title()} ({why}), so nothing feeds one.")


def _add(
    state: StateFolder, supervisor: Supervisor, known: StackRecord, record: StackRecord, names: list[str], steps: Steps
) -> None:
    _configure(state, supervisor, record)
    try:
        start_and_wait(state, supervisor, [one for one in own_processes(record) if one.name in names], steps)
    except BaseException:
        _configure(state, supervisor, known)
        supervisor.stop_programs(names)
        supervisor.remove_programs(names)
        raise


def _configure(state: StateFolder, supervisor: Supervisor, record: StackRecord) -> None:
    found = find_installations([name for name in SERVER_NAMES if name not in record.without])
    write_programs(state, servers_of(state, found, record), record)
    supervisor.reload()


def _remove(supervisor: Supervisor, names: list[str], steps: Steps) -> None:
    if not names:
        return
    what = ", ".join(names)
    with steps.step("workers", f"draining {what}", f"{what} drained and stopped"):
        supervisor.stop_programs(names)
    supervisor.remove_programs(names)
