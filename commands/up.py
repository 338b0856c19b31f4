"""`headrace up`: the whole stack on this machine, ready to use."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from commands.output import INTERRUPTED, WRONG_USAGE, fail, stderr, stdout
from local_stack import containers
from local_stack.addresses import without_passwords
from local_stack.layout import UpOptions
from local_stack.processes import examine
from local_stack.stack import UpOutcome, bring_up
from local_stack.state_folder import StateFolder
from local_stack.steps import Steps
from local_stack.summary import count, summary_lines
from runtime.settings import load_settings


def up(
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Use free ports instead of the customary ones, and remember them.")
    ] = False,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Start Kafka, Postgres, Redis and Elasticsearch and nothing of ours.")
    ] = False,
    ingest: Annotated[
        bool | None,
        typer.Option("--ingest/--no-ingest", help="Run the first ingestion, or not. By default: until it succeeded."),
    ] = None,
    brokers: Annotated[
        int | None,
        typer.Option(help="Kafka nodes of a new stack: 1, 3 or 5. With 3 or more every topic has three copies."),
    ] = None,
) -> None:
    """Start Kafka, Postgres, Redis, Elasticsearch and all processes of ours, and wait until each is healthy.

    The first start resolves the servers and ingests the sources; later ones take seconds. When the stack is running
    already, it is checked and shown, and processes whose settings (.env or environment), datasets or code have changed
    are restarted. Ctrl-C while it starts stops everything that it had started.

    With HEADRACE_STACK=docker it is the stack of docker-compose.yml, which is built first.

    Ports come from KAFKA_PORT, KAFKA_CONTROLLER_PORT, POSTGRES_PORT, REDIS_PORT, ELASTICSEARCH_PORT,
    ELASTICSEARCH_TRANSPORT_PORT, API_PORT, DASHBOARD_PORT, MOCK_PORT and HEALTH_PORT_BASE; those of further brokers
    from KAFKA_2_PORT, KAFKA_2_CONTROLLER_PORT and so on.

    Examples:

      headrace up

      headrace up --free-ports --no-ingest

      headrace up --brokers 3

      HEADRACE_STACK=docker headrace up

      HEADRACE_HOME=/tmp/second API_PORT=8001 headrace up --free-ports
    """
    settings = load_settings()
    state = StateFolder.at(settings.home)
    if settings.headrace_stack == "docker":
        if free_ports or ingest is not None:
            fail(
                "--free-ports and --ingest/--no-ingest are for the native stack. In containers set the ports by their "
                "variables, and choose services with: docker compose up -d --wait SERVICE…",
                WRONG_USAGE,
            )
        _up_in_containers(state, brokers, servers_only)
        return
    try:
        with _interruptible(), Steps(stdout) as steps:
            outcome = bring_up(state, UpOptions(free_ports, servers_only, ingest, brokers), steps)
    except KeyboardInterrupt:
        stderr.print("Interrupted; everything that was started has been stopped.")
        raise typer.Exit(INTERRUPTED) from None
    _show(state, outcome)


def _up_in_containers(state: StateFolder, brokers: int | None, servers_only: bool) -> None:
    addresses = containers.up(state.home, brokers=brokers, servers_only=servers_only)
    stdout.print("Headrace is up in containers" + (" (servers only)" if servers_only else ""))
    for name, address in without_passwords(addresses).items():
        stdout.print(f"  {name:<24} {address}", markup=False)
    stdout.print("  passwords: HEADRACE_STACK=docker headrace env --secrets", markup=False)
    stdout.print("  look: HEADRACE_STACK=docker headrace status, or logs -f, or lag", markup=False)
    stdout.print("  stop: HEADRACE_STACK=docker headrace down (data stays; clean deletes it)", markup=False)


def _show(state: StateFolder, outcome: UpOutcome) -> None:
    stdout.print()
    for line in summary_lines(state, outcome.record, count(outcome.record)):
        stdout.print(line, markup=False)
    for one in examine(state):
        if one.note:
            stderr.print(f"  {one.name}: {one.note}", markup=False, style="yellow")
    if outcome.ingestion_exit_code:
        fail(
            f"The stack runs, but the first ingestion failed (exit code {outcome.ingestion_exit_code}; its output is "
            "above). Repeat it with: headrace publish --all --wait",
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the first Ctrl-C, TERM or HUP into an orderly stop, which further ones can't cut short."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in handled:
            signal.signal(number, signal.SIG_IGN)
        stderr.print("Stopping what was started…")
        raise KeyboardInterrupt

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
