"""`headrace down`: an orderly stop."""

from commands.output import stdout
from local_stack import containers
from local_stack.stack import take_down
from local_stack.state_folder import StateFolder
from local_stack.steps import Steps
from runtime.settings import load_settings


def down() -> None:
    """Stop every process of the stack, our own first and the servers last. The data stays.

    Returns when the last one has ended; does nothing when nothing runs.

    Examples:

      headrace down

      HEADRACE_HOME=/tmp/second headrace down
    """
    settings = load_settings()
    state = StateFolder.at(settings.home)
    if settings.headrace_stack == "docker":
        there = containers.down(state.home)
        stdout.print("Stopped; the data stays in its volumes." if there else "No containers are running.")
        return
    with Steps(stdout) as steps:
        was_running = take_down(state, steps)
    stdout.print("Stopped; the data stays in" if was_running else "Nothing is running in", str(state.home))
