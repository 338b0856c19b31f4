"""`headrace clean`: the stack's data, logs and remembered ports are deleted."""

from typing import Annotated

import typer

from commands.output import fail, stdout
from local_stack import containers
from local_stack.stack import take_down
from local_stack.state_folder import StateFolder
from local_stack.steps import Steps
from runtime.settings import load_settings


def clean(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the stack and delete its state folder: all records, logs and remembered ports.

    The resolved servers, which other stacks share, stay in their cache.

    Examples:

      headrace clean

      HEADRACE_HOME=/tmp/second headrace clean --yes
    """
    settings = load_settings()
    state = StateFolder.at(settings.home)
    if settings.headrace_stack == "docker":
        _clean_containers(state, yes)
        return
    if not state.home.exists():
        stdout.print(f"There is nothing to delete: {state.home} does not exist.")
        return
    if not state.is_ours():
        fail(f"{state.home} is not a state folder of headrace; nothing was deleted. HEADRACE_HOME names the folder.")
    if not yes:
        typer.confirm(f"Stop the stack and delete {state.home} with all its data?", abort=True)
    with Steps(stdout) as steps:
        take_down(state, steps)
    state.delete()
    stdout.print(f"Deleted {state.home}.")


def _clean_containers(state: StateFolder, yes: bool) -> None:
    if not yes:
        typer.confirm("Remove the containers and delete their volumes with all data?", abort=True)
    containers.down(state.home, volumes=True)
    stdout.print("Deleted the containers and their volumes.")
