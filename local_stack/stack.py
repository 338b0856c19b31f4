"""Brings a whole stack up and down: servers, schema, our processes, first ingestion."""

import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from local_stack.addresses import addresses_of, defaults_of, require_free
from local_stack.errors import StackError
from local_stack.installations import INSTEAD, SERVER_NAMES, Installations, find_installations, is_server
from local_stack.layout import (
    UpOptions,
    brokers_of,
    ports_in_use,
    record_at_start,
    record_while_running,
    servers_of,
    write_programs,
)
from local_stack.process_status import read_history
from local_stack.processes import all_processes, own_processes, server_processes
from local_stack.programs import Tier, python_path, role_instances
from local_stack.reaper import kill_tree
from local_stack.settings_of_processes import fingerprint, outdated, write_variables
from local_stack.starting import run_headrace, run_logged, start_and_wait
from local_stack.state_folder import StackRecord, StateFolder, require_space
from local_stack.steps import Steps
from local_stack.supervisor import Supervisor
from local_stack.unprivileged import make_data_folder
from runtime.settings import read_variables

SERVERS_TIMEOUT_SECONDS = 180.0
"""Elasticsearch takes 7 s on a quiet machine, and over a minute on a CI machine that shares two cores."""

SERVER_STOP_SECONDS = 30.0
ROLE_STOP_SECONDS = 15.0

MOST_NAMED = 5
"""Changed settings that are named in a line."""


@dataclass(frozen=True)
class UpOutcome:
    """The outcome of `bring_up`: the stack runs; the ingestion may still have failed."""

    record: StackRecord
    ingestion_exit_code: int | None
    """None when there was none."""


def bring_up(state: StateFolder, options: UpOptions, steps: Steps) -> UpOutcome:
    """Start whatever of the stack is not running yet and wait until all of it serves. Blocking; idempotent.

    Raises StackError with the cause. If this call started the supervisor, any failure or interruption stops
    everything again; a stack that was running before is left as it is.
    """
    state.make()
    with state.only_one("up"):
        supervisor = Supervisor(state)
        joined = supervisor.is_running()
        try:
            return _bring_up(state, supervisor, options, steps, joined=joined)
        except BaseException:
            if not joined:
                # The supervisor stops its programs in order; it may be anywhere between being forked and answering.
                supervisor.shutdown()
                _stop_orphans(_find_orphans(state))
                _clear(state)
            raise


def take_down(state: StateFolder, steps: Steps) -> bool:
    """Stop everything, in the opposite order of starting, and wait for it. Idempotent; False if nothing was running."""
    if not state.run.is_dir():
        return False
    with state.only_one("down"):
        supervisor = Supervisor(state)
        answers = supervisor.is_running()
        was_running = answers or supervisor.process() is not None
        if answers:
            tiers = _running_by_tier(state, supervisor)
            for tier in sorted(tiers, reverse=True):
                names = ", ".join(tiers[tier])
                with steps.step(tier.name.lower(), f"stopping {names}", f"{names} stopped"):
                    supervisor.stop_programs(tiers[tier])
        supervisor.shutdown()
        if orphans := _find_orphans(state):
            was_running = True
            with steps.step("left behind", f"stopping {', '.join(map(str, orphans))}", "stopped"):
                _stop_orphans(orphans)
        _clear(state)
        return was_running


def _bring_up(
    state: StateFolder, supervisor: Supervisor, options: UpOptions, steps: Steps, *, joined: bool
) -> UpOutcome:
    known = state.read_record()
    brokers_of(known, options.brokers)
    if joined:
        steps.note(f"The stack in {state.home} is running; checking it.")
        if not known.passwords:
            raise StackError(
                "The running stack was started by a version whose passwords are published.",
                remedy="Stop it and start it again: headrace down, headrace up. The data stays.",
            )
    else:
        _clear_leftovers(state, supervisor, steps)
        make_data_folder(state.data)
        require_space(state.data)
    found = _find_installations(state, steps)
    if joined:
        # It keeps its ports.
        record = record_while_running(known, known.counts)
        record = replace(record, servers_only=known.servers_only and options.servers_only)
    else:
        record = record_at_start(known, found, options)
    # What every process inherits: the stack's addresses win over the caller's and over `.env`.
    own = {"HEADRACE_HOME": str(state.home), "PYTHONPATH": python_path()}
    environment = os.environ | addresses_of(record) | own
    servers = servers_of(state, found, record)
    if not joined:
        folder = str(state.data.resolve())
        with steps.step("data folders", f"preparing {folder}", folder), ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(lambda server: server.prepare(), servers))
    write_programs(state, servers, record)
    write_variables(state, Path(record.folder))

    if joined:
        supervisor.reload()
    else:
        require_free(ports_in_use(record))
        state.watchdog_log.unlink(missing_ok=True)
        supervisor.start(environment)
    state.write_record(record)
    state.write_addresses(addresses_of(record) | defaults_of(record))

    start_and_wait(
        state, supervisor, server_processes(record), steps, timeout_seconds=SERVERS_TIMEOUT_SECONDS, restarts_allowed=0
    )
    if record.servers_only:
        return UpOutcome(record, None)
    with steps.step("setup", "tables, topics and indices", "tables, topics and indices are there"):
        run_logged(("setup", "--go-on"), environment, state.log("setup"))
    if joined and not known.servers_only:
        _stop_what_changed(state, supervisor, record, steps)
    start_and_wait(state, supervisor, own_processes(record), steps)

    wanted = options.ingest if options.ingest is not None else not record.ingested
    return UpOutcome(state.read_record(), _ingest(state, environment, steps) if wanted else None)


def _stop_what_changed(state: StateFolder, supervisor: Supervisor, record: StackRecord, steps: Steps) -> None:
    found = outdated(state.home, role_instances(record), fingerprint(Path(record.folder)))
    names, changes = list(found), sorted({change for changes in found.values() for change in changes})
    if names:
        more = f" and {len(changes) - MOST_NAMED} more" if len(changes) > MOST_NAMED else ""
        what = f"{', '.join(changes[:MOST_NAMED])}{more} changed"
        with steps.step("changes", f"{what}: stopping {', '.join(names)}", f"{what}: restarting {', '.join(names)}"):
            supervisor.stop_programs(names)


def _clear_leftovers(state: StateFolder, supervisor: Supervisor, steps: Steps) -> None:
    if process := supervisor.process():
        steps.note(f"A supervisor of this stack (pid {process.pid}) does not answer; stopping it.")
        supervisor.shutdown()
    if orphans := _find_orphans(state):
        steps.note(f"Stopping what a killed supervisor left running: {', '.join(map(str, orphans))}.")
        _stop_orphans(orphans)
    if traces := _clear(state):
        steps.note(f"Removed what a dead supervisor left behind: {', '.join(traces)}.")


def _find_installations(state: StateFolder, steps: Steps) -> Installations:
    variables = read_variables()
    refused = {
        name: f"{variable}=none"
        for name in INSTEAD
        if variables.get(variable := f"{name.upper()}_URL", "").lower() == "none"
    }
    names = [name for name in SERVER_NAMES if name not in refused]
    steps.begin("programs", f"finding {', '.join(names)} (the first time with Maven: a minute)")
    found = find_installations(names, data=state.data)
    found = replace(found, without={**found.without, **refused})
    there = [name for name in names if name not in found.without]
    without = "".join(f"; no {name} ({why})" for name, why in found.without.items())
    steps.done("programs", f"found {', '.join(there)}{without}")
    return found


def _ingest(state: StateFolder, environment: Mapping[str, str], steps: Steps) -> int:
    with steps.handed_over():
        steps.note("First ingestion: headrace publish --all --wait")
        code = run_headrace(("publish", "--all", "--wait"), environment)
    if code == 0:
        state.write_record(replace(state.read_record(), ingested=True))
    return code


def _running_by_tier(state: StateFolder, supervisor: Supervisor) -> dict[Tier, list[str]]:
    tiers = {one.name: one.tier for one in all_processes(state.read_record())}
    found: dict[Tier, list[str]] = {}
    for process in supervisor.processes().values():
        if process.state != "STOPPED":
            found.setdefault(tiers.get(process.name, Tier.WORKERS), []).append(process.name)
    return found


def _clear(state: StateFolder) -> list[str]:
    """Remove the addresses, and the pid file and socket of a supervisor that is gone, which are returned."""
    state.env_file.unlink(missing_ok=True)
    traces = [path for path in (state.supervisor_pid, state.supervisor_socket) if path.exists()]
    for path in traces:
        path.unlink(missing_ok=True)
    return [path.name for path in traces]


@dataclass(frozen=True)
class _Orphan:
    name: str
    process: psutil.Process

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})"


def _find_orphans(state: StateFolder) -> list[_Orphan]:
    """The processes that a killed supervisor left behind and that still run. Only asked when no supervisor does.

    A process is ours if the supervisor's log says that it was started with this pid and the process itself shows it,
    since the number may belong to another by now.
    """
    found: list[_Orphan] = []
    for name, history in read_history(state.supervisor_log).items():
        for pid in history.pids:
            try:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE and _shows(process, name, state):
                    found.append(_Orphan(name, process))
            except psutil.Error:
                continue
    return found


def _stop_orphans(orphans: Sequence[_Orphan]) -> None:
    """End them as the supervisor would have: our processes first, then the servers; a kill for those that stay."""
    _stop([orphan for orphan in orphans if not is_server(orphan.name)], ROLE_STOP_SECONDS)
    _stop([orphan for orphan in orphans if is_server(orphan.name)], SERVER_STOP_SECONDS)


def _shows(process: psutil.Process, name: str, state: StateFolder) -> bool:
    # Redis and Postgres write their title over their arguments and environment, but work in their data folder.
    if Path(process.cwd()).is_relative_to(state.data.resolve()):
        return True
    own = process.environ()
    return own.get("HEADRACE_PROGRAM") == name and own.get("HEADRACE_HOME") == str(state.home)


def _stop(orphans: list[_Orphan], timeout_seconds: float) -> None:
    for orphan in orphans:
        number = signal.SIGINT if orphan.name == "postgres" else signal.SIGTERM
        try:
            orphan.process.resume()
            orphan.process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs([orphan.process for orphan in orphans], timeout_seconds)
    for process in alive:
        kill_tree(process.pid)
    psutil.wait_procs(alive, 5)
