"""`headrace restart`: processes of the running stack start again, with the settings as they are now."""

from typing import Annotated

import typer

from commands.output import fail, stdout
from local_stack.starting import restart_processes
from local_stack.state_folder import StateFolder
from local_stack.steps import Steps
from runtime.settings import load_settings


def restart(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…]", help="Processes as `headrace status` names them; all of ours by default."),
    ] = None,
) -> None:
    """Stop processes of the running stack, start them again, and wait until each is healthy.

    They finish what they have in hand first, and start with the settings of `.env` and of this command's environment.
    Servers (Kafka, Postgres, …) are restarted only when they are named.

    Examples:

      headrace restart

      headrace restart normalizer sink-postgres

      FAILURE_LIMIT_PERCENT=0 headrace restart normalizer
    """
    settings = load_settings()
    if settings.headrace_stack == "docker":
        words = " ".join(names or ["SERVICE…"])
        fail(f"Containers are restarted by compose: docker compose up -d --wait --no-deps --force-recreate {words}")
    state = StateFolder.at(settings.home)
    with Steps(stdout) as steps:
        done = restart_processes(state, names or [], steps)
    stdout.print(f"Restarted: {', '.join(done)}.", markup=False)
