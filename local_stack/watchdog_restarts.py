"""Restarts single processes for the watchdog, and keeps a line of each, for `headrace status`."""

import json
import xmlrpc.client
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from local_stack.programs import role_instances
from local_stack.server import NoAnswer, get
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.supervisor import Supervisor

ANSWER_SECONDS = 3.0


def health_of_group(record: StackRecord, role: str) -> dict[str, dict[str, object] | None]:
    """The /health of each process of this role, by its name; None for one that does not answer. Blocking."""
    ports = {one.name: one.port for one in role_instances(record) if one.role.name == role and one.role.scalable}
    return {name: _health(port) for name, port in ports.items()}


def restart(state: StateFolder, names: Sequence[str]) -> bool:
    """Stop these processes (the supervisor kills those that do not end) and start them again. Blocking: some 20 s.

    False, and nothing is done, while `up`, `down` or `scale` changes the stack, or when the supervisor does not answer.
    """
    supervisor = Supervisor(state)
    if state.is_being_changed():
        return False
    try:
        supervisor.stop_programs(names)
        supervisor.start_programs(names)
    except (OSError, xmlrpc.client.Fault):
        return False
    return True


def remember(state: StateFolder, name: str, group: str, reason: str) -> None:
    """Keep a restarted process, with the time, until the stack is started again."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with state.watchdog_log.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"at": at, "name": name, "group": group, "reason": reason}) + "\n")


def restarts_by_name(state: StateFolder) -> Counter[str]:
    """Restarts by the watchdog since the stack was started, by process."""
    try:
        lines = state.watchdog_log.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return Counter()
    return Counter(str(json.loads(line)["name"]) for line in lines)


def _health(port: int) -> dict[str, object] | None:
    try:
        _, answer = get(port, "/health", ANSWER_SECONDS)
    except NoAnswer:
        return None
    return answer if isinstance(answer, dict) else None
