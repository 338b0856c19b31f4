"""Brings a whole stack up and down: servers, schema, our processes, first ingestion."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dotenv import dotenv_values

from local_stack.addresses import addresses_of
from local_stack.disk import require_space
from local_stack.errors import StackError
from local_stack.installations import SERVER_NAMES, Installations, build_servers, find_installations
from local_stack.leftovers import clear_traces, find_orphans, stop_orphans
from local_stack.own_command import run_logged, run_shown
from local_stack.ports import DEFAULT_PORTS, assign_ports, port_variables, require_free
from local_stack.programs import HEALTH_PORT_BASE, Tier, instances, port_defaults, python_path
from local_stack.progress import Steps
from local_stack.server import size_of
from local_stack.state_folder import StackRecord, StateFolder, write_atomically
from local_stack.supervisor import Supervisor
from local_stack.supervisor_config import Program, render
from local_stack.waiting import wait_until_well
from local_stack.watched import Watched, watched_processes, watched_roles, watched_servers

SERVERS_TIMEOUT_SECONDS = 180.0
"""Elasticsearch takes 7 s on a quiet machine, and over a minute on a CI machine that shares two cores."""

ROLES_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class UpOptions:
    """What `headrace up` was asked for."""

    free_ports: bool = False
    servers_only: bool = False
    ingest: bool | None = None
    """None: only if no first ingestion has succeeded yet."""


@dataclass(frozen=True)
class UpOutcome:
    """What `bring_up` achieved: the stack runs; the ingestion may still have failed."""

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
                _stop_everything(state, supervisor)
            raise


def take_down(state: StateFolder, steps: Steps) -> bool:
    """Stop everything, in the opposite order of starting, and wait for it. Idempotent; False if nothing was running."""
    if not state.run.is_dir():
        return False
    with state.only_one("down"):
        return _take_down(state, steps)


def _bring_up(
    state: StateFolder, supervisor: Supervisor, options: UpOptions, steps: Steps, *, joined: bool
) -> UpOutcome:
    if joined:
        steps.note(f"The stack in {state.home} is running; checking it.")
    else:
        _clear_leftovers(state, supervisor, steps)
        require_space(state.home)
    found = _find_installations(state, steps)
    record = _record(state, options, found, joined=joined)
    environment = _environment(state, record)
    _prepare(state, found, record, steps, joined=joined)

    if joined:
        supervisor.reload()
    else:
        require_free(_ports_in_use(record))
        supervisor.start(environment)
    state.write_record(record)
    state.write_addresses(addresses_of(record))

    servers = watched_servers(record)
    _start(state, supervisor, servers, steps, timeout_seconds=SERVERS_TIMEOUT_SECONDS, restarts_allowed=0)
    if record.servers_only:
        return UpOutcome(record, None)
    with steps.step("setup", "tables, topics and indices", "tables, topics and indices are there"):
        run_logged(("setup",), environment, state.log("setup"))
    roles = watched_roles(record)
    _start(state, supervisor, roles, steps, timeout_seconds=ROLES_TIMEOUT_SECONDS, restarts_allowed=2)

    wanted = options.ingest if options.ingest is not None else not record.ingested
    return UpOutcome(state.read_record(), _ingest(state, environment, steps) if wanted else None)


def _clear_leftovers(state: StateFolder, supervisor: Supervisor, steps: Steps) -> None:
    if process := supervisor.process():
        steps.note(f"A supervisor of this stack (pid {process.pid}) does not answer; stopping it.")
        supervisor.shutdown()
    if orphans := find_orphans(state):
        steps.note(f"Stopping what a killed supervisor left running: {', '.join(map(str, orphans))}.")
        stop_orphans(orphans)
    if traces := clear_traces(state):
        steps.note(f"Removed what a dead supervisor left behind: {', '.join(traces)}.")


def _find_installations(state: StateFolder, steps: Steps) -> Installations:
    refused = os.environ.get("ELASTICSEARCH_URL", "").lower() == "none"
    names = [name for name in SERVER_NAMES if not (refused and name == "elasticsearch")]
    steps.begin("programs", f"finding {', '.join(names)} (the first time with Maven: a minute)")
    found = find_installations(names, data=state.data)
    if refused:
        found = replace(found, without_elasticsearch="ELASTICSEARCH_URL=none")
    without = found.without_elasticsearch
    there = [name for name in names if not (without and name == "elasticsearch")]
    steps.done("programs", f"found {', '.join(there)}" + (f"; no elasticsearch ({without})" if without else ""))
    return found


def _record(state: StateFolder, options: UpOptions, found: Installations, *, joined: bool) -> StackRecord:
    """What this start remembers. The ports of a running stack stay what they are."""
    known = state.read_record()
    variables = port_variables(dotenv_values(".env"))
    base = assign_ports({"HEALTH_PORT_BASE": HEALTH_PORT_BASE}, environment=variables, remembered={}, free=False)
    defaults = DEFAULT_PORTS | port_defaults(base=base["HEALTH_PORT_BASE"])
    if joined:
        for name, port in known.ports.items():
            if variables.get(name, str(port)) != str(port):
                raise StackError(
                    f"The running stack has {name}={port}, not {variables[name]}.",
                    remedy="Stop it first: headrace down",
                )
        return replace(known, servers_only=known.servers_only and options.servers_only)
    if "HEALTH_PORT_BASE" in variables:
        variables |= {name: str(port) for name, port in port_defaults(base=base["HEALTH_PORT_BASE"]).items()}
    ports = assign_ports(defaults, environment=variables, remembered=known.ports, free=options.free_ports)
    return StackRecord(ports, found.without_elasticsearch, options.servers_only, known.ingested)


def _environment(state: StateFolder, record: StackRecord) -> dict[str, str]:
    """What every process of the stack inherits. Its addresses win over the caller's and over `.env`."""
    own = {"HEADRACE_HOME": str(state.home), "PYTHONPATH": python_path()}
    return os.environ | addresses_of(record) | own


def _prepare(state: StateFolder, found: Installations, record: StackRecord, steps: Steps, *, joined: bool) -> None:
    if record.without_elasticsearch:
        found = replace(found, elasticsearch=None)
    servers = build_servers(found, state.data, record.ports)
    if not joined:
        with steps.step("data folders", f"preparing {state.data}", f"{state.data}"):
            for server in servers:
                server.prepare()
    programs = [Program.of_server(server, state.data / server.name) for server in servers]
    if not record.servers_only:
        ours = instances(record.ports, elasticsearch=record.without_elasticsearch is None)
        programs += [Program.of_instance(instance, Path.cwd()) for instance in ours]
    write_atomically(state.supervisor_config, render(state, programs))


def _ports_in_use(record: StackRecord) -> Mapping[str, int]:
    watched = {one.port for one in watched_processes(record)}
    beside = {"KAFKA_CONTROLLER_PORT"} | (set() if record.without_elasticsearch else {"ELASTICSEARCH_TRANSPORT_PORT"})
    return {name: port for name, port in record.ports.items() if port in watched or name in beside}


def _start(
    state: StateFolder,
    supervisor: Supervisor,
    watched: list[Watched],
    steps: Steps,
    *,
    timeout_seconds: float,
    restarts_allowed: int,
) -> None:
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


def _ingest(state: StateFolder, environment: Mapping[str, str], steps: Steps) -> int:
    with steps.handed_over():
        steps.note("First ingestion: headrace publish --all --wait")
        code = run_shown(("publish", "--all", "--wait"), environment)
    if code == 0:
        state.remember_ingested()
    return code


def _take_down(state: StateFolder, steps: Steps) -> bool:
    supervisor = Supervisor(state)
    was_running = supervisor.is_running() or supervisor.process() is not None
    if supervisor.is_running():
        tiers = _running_by_tier(state, supervisor)
        for tier in sorted(tiers, reverse=True):
            names = tiers[tier]
            what = ", ".join(names)
            with steps.step(tier.name.lower(), f"stopping {what}", f"{what} stopped"):
                supervisor.stop_programs(names)
    supervisor.shutdown()
    if orphans := find_orphans(state):
        was_running = True
        with steps.step("left behind", f"stopping {', '.join(map(str, orphans))}", "stopped"):
            stop_orphans(orphans)
    clear_traces(state)
    state.env_file.unlink(missing_ok=True)
    return was_running


def _running_by_tier(state: StateFolder, supervisor: Supervisor) -> dict[Tier, list[str]]:
    tiers = {one.name: one.tier for one in watched_processes(state.read_record())}
    found: dict[Tier, list[str]] = {}
    for process in supervisor.processes():
        if process.state != "STOPPED":
            found.setdefault(tiers.get(process.name, Tier.WORKERS), []).append(process.name)
    return found


def _stop_everything(state: StateFolder, supervisor: Supervisor) -> None:
    # The supervisor itself stops its programs in order; it may be anywhere between being forked and answering.
    supervisor.shutdown()
    if orphans := find_orphans(state):
        stop_orphans(orphans)
    clear_traces(state)
    state.env_file.unlink(missing_ok=True)
