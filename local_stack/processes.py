"""The processes of a stack, each with the question whether it is well, and their status."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from local_stack import elasticsearch, kafka, postgres, redis
from local_stack.addresses import node_name, node_ports
from local_stack.process_status import History, ProcessStatus, read_history
from local_stack.programs import Tier, role_instances
from local_stack.settings_of_processes import CODE, DATASETS, fingerprint, outdated
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.supervisor import ProcessState, Supervisor

MOST_NAMED = 3
"""Changed variables that are named."""


@dataclass(frozen=True)
class StackProcess:
    """A process: its name, its port, and how to ask it."""

    name: str
    port: int
    tier: Tier
    problem: Callable[[], str | None]
    note: Callable[[], str | None] = lambda: None


def server_processes(record: StackRecord) -> list[StackProcess]:
    """The servers of a stack, in order of starting."""
    ports, passwords = record.ports, record.passwords
    questions: dict[str, tuple[str, Callable[[int], str | None]]] = {
        **{
            node_name(node): (node_ports(node)[0], partial(kafka.problem, node_id=node))
            for node in range(1, record.brokers + 1)
        },
        "postgres": ("POSTGRES_PORT", partial(postgres.problem, password=passwords.get("postgres", ""))),
        "redis": ("REDIS_PORT", partial(redis.problem, password=passwords.get("redis", ""))),
        "elasticsearch": ("ELASTICSEARCH_PORT", elasticsearch.problem),
    }
    return [
        StackProcess(name, ports[variable], Tier.SERVERS, partial(problem, ports[variable]))
        for name, (variable, problem) in questions.items()
        if name not in record.without
    ]


def own_processes(record: StackRecord) -> list[StackProcess]:
    """Our own processes of a stack, in order of starting."""
    found = [] if record.servers_only else role_instances(record)
    return [StackProcess(one.name, one.port, one.role.tier, one.problem, one.note) for one in found]


def all_processes(record: StackRecord) -> list[StackProcess]:
    """All processes of a stack, in order of starting; none before its first start."""
    return [*server_processes(record), *own_processes(record)] if record.ports else []


def ask(
    processes: Iterable[StackProcess], question: Callable[[StackProcess], str | None] = lambda one: one.problem()
) -> dict[str, str | None]:
    """Ask these processes, all at once; the answers by name."""
    asked = list(processes)
    with ThreadPoolExecutor(len(asked) or 1) as threads:
        answers = list(threads.map(question, asked))
    return dict(zip((one.name for one in asked), answers, strict=True))


def examine(state: StateFolder) -> list[ProcessStatus]:
    """The status of every process of the stack now. Blocking: 6 s at most, since all are asked at once."""
    record = state.read_record()
    processes = all_processes(record)
    supervisor = Supervisor(state)
    running = supervisor.is_running()
    known = supervisor.processes() if running else {}
    alive = [one for one in processes if one.name in known and known[one.name].pid]
    problems = ask(alive)
    notes = ask(alive, lambda one: one.note())
    deaths = read_history(state.supervisor_log) if running else {}
    stalls = Counter(one["name"] for one in state.watchdog_restarts()) if running else Counter[str]()
    older = _outdated(state, record) if running else {}

    def status(one: StackProcess) -> ProcessStatus:
        name, stalled = one.name, stalls[one.name]
        pid, word, problem = _judge(known.get(name), problems.get(name))
        restarts = deaths.get(name, History()).restarts + stalled
        outdated = older.get(name) if pid is not None else None
        return ProcessStatus(name, pid, word, one.port, restarts, stalled, problem, notes.get(name), outdated)

    return [status(one) for one in processes]


def _outdated(state: StateFolder, record: StackRecord) -> dict[str, str]:
    """By process of ours, what it runs that is not what is there now."""
    if record.servers_only or not record.ports:
        return {}
    found = outdated(state.home, role_instances(record), fingerprint(Path(record.folder)))
    return {name: outdated_text(changes) for name, changes in found.items()}


def outdated_text(changes: Sequence[str]) -> str:
    """Words on what a process runs that is older than what is there. Pure."""
    kinds = [f"older {change.removeprefix('the ')}" for change in changes if change in (CODE, DATASETS)]
    settings = [change for change in changes if change not in (CODE, DATASETS)]
    if settings:
        more = f" and {len(settings) - MOST_NAMED} more" if len(settings) > MOST_NAMED else ""
        kinds.append(f"another {', '.join(settings[:MOST_NAMED])}{more}")
    return f"runs with {' and '.join(kinds)} than is there now: headrace restart"


def _judge(known: ProcessState | None, problem: str | None) -> tuple[int | None, str, str | None]:
    """The pid, the state and the problem of a process, from the supervisor's word and its own answer."""
    state = known.state.lower() if known else "stopped"
    if known is None or known.pid is None:
        # Between its death and its next start the supervisor may still say RUNNING or STARTING of it.
        state = "exited" if state in ("running", "starting") else state
        return None, state, f"the process is not there ({state})"
    if problem is None and state == "starting":
        state = "running"
    elif problem is not None and state == "running":
        state = "unhealthy"
    return known.pid, state, problem
