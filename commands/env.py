"""`headrace env`: the running stack's addresses, for other programs."""

import shlex
from typing import Annotated

import typer

from commands.output import fail, print_json
from local_stack.addresses import PUBLIC
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from runtime.settings import load_settings


def env(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the addresses of the running stack as KEY=value lines. Exit code 1 when none is running.

    ELASTICSEARCH_URL is `none` on a machine that can't run Elasticsearch.

    Examples:

      export $(headrace env)

      headrace env --json
    """
    state = StateFolder.at(load_settings().home)
    known = state.read_addresses()
    if not known or not Supervisor(state).is_running():
        fail(f"No stack is running in {state.home}. Start one with: headrace up")
    addresses = {name: known[name] for name in PUBLIC}
    if as_json:
        print_json(addresses)
    else:
        for name, value in addresses.items():
            typer.echo(f"{name}={shlex.quote(value)}")
