"""Every process of a stack with the question that tells whether it is well."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from local_stack import elasticsearch, kafka, postgres, redis
from local_stack.addresses import node_name, node_ports
from local_stack.programs import Tier, role_instances
from local_stack.restarts import History, read_history
from local_stack.standing import Standing
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.supervisor import ProcessState, Supervisor
from local_stack.watchdog_restarts import restarts_by_name


@dataclass(frozen=True)
class Watched:
    """A process: its name, its port, and how to ask it."""

    name: str
    port: int
    tier: Tier
    problem: Callable[[], str | None]
    note: Callable[[], str | None] = lambda: None


def watched_servers(record: StackRecord) -> list[Watched]:
    """The servers of a stack, in order of starting."""
    ports, passwords = record.ports, record.passwords
    checks: dict[str, tuple[str, Callable[[int], str | None]]] = {
        **{
            node_name(node): (node_ports(node)[0], partial(kafka.problem, node_id=node))
            for node in range(1, record.brokers + 1)
        },
        "postgres": ("POSTGRES_PORT", partial(postgres.problem, password=passwords.get("postgres", ""))),
        "redis": ("REDIS_PORT", partial(redis.problem, password=passwords.get("redis", ""))),
        "elasticsearch": ("ELASTICSEARCH_PORT", elasticsearch.problem),
    }
    return [
        Watched(name, ports[variable], Tier.SERVERS, partial(check, ports[variable]))
        for name, (variable, check) in checks.items()
        if name not in record.without
    ]


def watched_roles(record: StackRecord) -> list[Watched]:
    """Our own processes of a stack, in order of starting."""
    if record.servers_only:
        return []
    found = role_instances(record)
    return [Watched(one.name, one.port, one.role.tier, one.problem, one.note) for one in found]


def watched_processes(record: StackRecord) -> list[Watched]:
    """All processes of a stack, in order of starting; none before its first start."""
    return [*watched_servers(record), *watched_roles(record)] if record.ports else []


def examine(state: StateFolder) -> list[Standing]:
    """How every process of the stack stands now. Blocking: 3 s at most, since all are asked at once."""
    watched = watched_processes(state.read_record())
    supervised: dict[str, ProcessState] = {}
    supervisor = Supervisor(state)
    if supervisor.is_running():
        supervised = {process.name: process for process in supervisor.processes()}
    alive = [one for one in watched if (known := supervised.get(one.name)) and known.pid]
    problems = ask(alive)
    notes = ask(alive, lambda one: one.note())
    history = read_history(state.supervisor_log) if supervised else {}
    stalls = restarts_by_name(state) if supervised else Counter()
    return [
        replace(
            _standing(
                one, supervised.get(one.name), problems, history.get(one.name, History()).restarts, stalls[one.name]
            ),
            note=notes.get(one.name),
        )
        for one in watched
    ]


def ask(
    watched: Iterable[Watched], question: Callable[[Watched], str | None] = lambda one: one.problem()
) -> dict[str, str | None]:
    """Ask these processes, all at once; the answers by name."""
    asked = list(watched)
    if not asked:
        return {}
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = list(threads.map(question, asked))
    return dict(zip((one.name for one in asked), answers, strict=True))


def _standing(
    one: Watched, known: ProcessState | None, problems: Mapping[str, str | None], deaths: int, stalls: int
) -> Standing:
    restarts = deaths + stalls
    if known is None or known.pid is None:
        state = known.state.lower() if known else "stopped"
        # Between its death and its next start the supervisor may still say RUNNING or STARTING of it.
        state = "exited" if state in ("running", "starting") else state
        return Standing(one.name, None, state, one.port, restarts, stalls, f"the process is not there ({state})")
    problem = problems[one.name]
    if problem is None:
        state = "running" if known.state in ("RUNNING", "STARTING") else known.state.lower()
    else:
        state = "unhealthy" if known.state == "RUNNING" else known.state.lower()
    return Standing(one.name, known.pid, state, one.port, restarts, stalls, problem)
