"""Changes how many instances of a role a running stack has."""

from collections.abc import Mapping
from dataclasses import dataclass

from local_stack.errors import StackError
from local_stack.installations import SERVER_NAMES, find_installations
from local_stack.layout import record_while_running, servers_of, write_programs
from local_stack.programs import ROLES, SCALABLE, role_instances
from local_stack.progress import Steps
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.supervisor import Supervisor
from local_stack.waiting import start_and_wait
from local_stack.watched import watched_roles

START_TIMEOUT_SECONDS = 120.0

MOST_INSTANCES = 100
"""Of one role on one machine: each is a process of some 100 MB, and each partition has one at most."""


@dataclass(frozen=True)
class Scaled:
    """What has changed. Names are those of `headrace status`."""

    counts: dict[str, int]
    """Of every role that was named: how many instances run now."""
    added: list[str]
    removed: list[str]
    members: dict[str, list[str]]
    """Per consumer group (without namespace): the worker ids of the removed instances."""


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
    """Run so many instances of these roles, and remember it for the next `up`. Blocking.

    Returns when every new instance is healthy and every superfluous one has drained and ended. If a new one does not
    become healthy, the new ones are removed again and StackError is raised. Roles that are not named stay as they are.
    """
    supervisor = Supervisor(state)
    if not supervisor.is_running():
        raise StackError(f"No stack is running in {state.home}.", remedy="Start one with: headrace up")
    with state.only_one("scale"):
        known = state.read_record()
        _refuse_what_is_not_there(known, wanted)
        record = record_while_running(known, {**known.counts, **wanted})
        before = {one.name: one for one in role_instances(known)}
        after = {one.name for one in role_instances(record)}
        removed = [one for name, one in before.items() if name not in after]
        added = [name for name in after if name not in before]
        _add(state, supervisor, known, record, sorted(added), steps)
        # From here on it holds: a stack that comes up again starts as many.
        state.write_record(record)
        _remove(supervisor, [one.name for one in removed], steps)
        members: dict[str, list[str]] = {}
        for one in removed:
            members.setdefault(one.role.name, []).append(str(one.number))
        counts = {role: record.counts.get(role, 1) for role in wanted}
        return Scaled(counts, sorted(added), [one.name for one in removed], members)


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
    watched = [one for one in watched_roles(record) if one.name in names]
    try:
        start_and_wait(state, supervisor, watched, steps, timeout_seconds=START_TIMEOUT_SECONDS, restarts_allowed=2)
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
