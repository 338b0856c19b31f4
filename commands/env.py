"""`headrace env`: the running stack's addresses, for other programs."""

import shlex
import sys
from typing import Annotated

import typer

from commands.output import fail, print_json, stderr
from local_stack.addresses import PUBLIC, plain, without_passwords
from local_stack.containers import running_addresses
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from runtime.settings import Settings, load_settings


def env(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="Print passwords on a terminal too.")] = False,
) -> None:
    """Print the addresses of the running stack as KEY=value lines. Exit code 1 when none is running.

    Passwords are in them when a script reads it, from a pipe or a file; on a terminal with --secrets only. REDIS_URL
    or ELASTICSEARCH_URL is `none` in a stack without that server.

    Examples:

      export $(headrace env)

      headrace env --json

      headrace env --secrets
    """
    settings = load_settings()
    addresses = running_addresses() if settings.headrace_stack == "docker" else _native(settings)
    if not addresses:
        where = "containers" if settings.headrace_stack == "docker" else str(StateFolder.at(settings.home).home)
        fail(f"No stack is running in {where}. Start one with: headrace up")
    addresses = {name: plain(address) for name, address in addresses.items()}
    if sys.stdout.isatty() and not secrets:
        shown = without_passwords(addresses)
        if shown != addresses:
            stderr.print("Passwords are not shown on a terminal; --secrets shows them.", style="dim")
        addresses = shown
    if as_json:
        print_json(addresses)
    else:
        for name, value in addresses.items():
            typer.echo(f"{name}={shlex.quote(value)}")


def _native(settings: Settings) -> dict[str, str]:
    state = StateFolder.at(settings.home)
    known = state.read_addresses()
    return {name: known[name] for name in PUBLIC} if known and Supervisor(state).is_running() else {}
