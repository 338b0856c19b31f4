"""The parts of a stack: decided when it starts, remembered, and written down for the supervisor."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local_stack.addresses import (
    DEFAULT_PORTS,
    add_ports,
    assign_ports,
    cluster_ports,
    make_passwords,
    new_secret,
    node_ports,
)
from local_stack.errors import StackError
from local_stack.installations import Installations, build_servers
from local_stack.processes import all_processes
from local_stack.programs import HEALTH_PORT_BASE, port_defaults, role_instances
from local_stack.server import Server
from local_stack.state_folder import StackRecord, StateFolder, write_atomically
from local_stack.supervisor import render
from runtime.settings import read_variables

QUORUMS = (1, 3, 5)
"""Sizes of a Kafka cluster: with an even number of nodes no more of them may be lost than with one node less."""


@dataclass(frozen=True)
class UpOptions:
    """Options of `headrace up`."""

    free_ports: bool = False
    servers_only: bool = False
    ingest: bool | None = None
    """None: only if no first ingestion has succeeded yet."""
    brokers: int | None = None
    """None: as many as the stack had, one at first."""


def record_at_start(known: StackRecord, found: Installations, options: UpOptions) -> StackRecord:
    """The record of a stack that is about to start.

    Raises StackError when a port is none, or the number of brokers can't be had.
    """
    count = brokers_of(known, options.brokers)
    variables = read_variables()
    health = _health_ports(variables, known.counts)
    if "HEALTH_PORT_BASE" in variables:
        variables |= {name: str(port) for name, port in health.items()}
    defaults = DEFAULT_PORTS | cluster_ports(count) | health
    ports = assign_ports(defaults, environment=variables, remembered=known.ports, free=options.free_ports)
    return replace(
        known,
        ports=ports,
        without=dict(found.without),
        servers_only=options.servers_only,
        brokers=count,
        redis=str(found.redis or ""),
        folder=str(Path.cwd()),
        passwords=known.passwords or make_passwords(),
        forget_secret=known.forget_secret or new_secret(),
    )


def record_while_running(known: StackRecord, counts: Mapping[str, int]) -> StackRecord:
    """The record of a running stack with these numbers of instances. Its ports stay; further ones are added.

    Raises StackError when a variable asks for another port than the running one.
    """
    variables = read_variables()
    for name, port in known.ports.items():
        if variables.get(name, str(port)) != str(port):
            raise StackError(
                f"The running stack has {name}={port}, not {variables[name]}.",
                remedy="Stop it first: headrace down",
            )
    defaults = DEFAULT_PORTS | cluster_ports(known.brokers) | _health_ports(variables, counts)
    several = {role: count for role, count in counts.items() if count > 1}
    return replace(known, ports=add_ports(known.ports, defaults), counts=several)


def brokers_of(known: StackRecord, asked: int | None) -> int:
    """The number of Kafka nodes. Raises StackError when there is data that was laid out for another number."""
    if asked is not None and asked not in QUORUMS:
        raise StackError(
            f"A cluster of {asked} brokers is not offered.",
            remedy="Choose 1, 3 or 5: a majority of the nodes must live, so an even number endures no more losses.",
        )
    if asked is not None and known.ports and asked != known.brokers:
        brokers = "1 broker" if known.brokers == 1 else f"{known.brokers} brokers"
        raise StackError(
            f"This stack's data was laid out for {brokers}, not for {asked}.",
            remedy="Delete it first (headrace clean), or use another state folder: "
            f"HEADRACE_HOME=/some/folder headrace up --brokers {asked} --free-ports",
        )
    return asked or known.brokers


def servers_of(state: StateFolder, found: Installations, record: StackRecord) -> list[Server]:
    """The servers of this stack, in order of starting."""
    absent: dict[str, Any] = dict.fromkeys(record.without)
    found = replace(found, **absent)
    return build_servers(found, state.data.resolve(), record.ports, record.passwords, brokers=record.brokers)


def write_programs(state: StateFolder, servers: list[Server], record: StackRecord) -> None:
    """Write the supervisor's configuration for these servers and our own processes."""
    instances = [] if record.servers_only else role_instances(record)
    folder = Path(record.folder) if record.folder else Path.cwd()
    write_atomically(state.supervisor_config, render(state, servers, instances, folder))


def ports_in_use(record: StackRecord) -> dict[str, int]:
    """The ports on which this stack's processes listen, by their variables."""
    of_clients = {one.port for one in all_processes(record)}
    internal = {node_ports(node)[1] for node in range(1, record.brokers + 1)}
    if "elasticsearch" not in record.without:
        internal.add("ELASTICSEARCH_TRANSPORT_PORT")
    return {name: port for name, port in record.ports.items() if port in of_clients or name in internal}


def _health_ports(variables: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, int]:
    base = assign_ports({"HEALTH_PORT_BASE": HEALTH_PORT_BASE}, environment=variables, remembered={}, free=False)
    return port_defaults(counts, base["HEALTH_PORT_BASE"])
