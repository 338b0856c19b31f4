"""Runs one of our own commands to its end as a process of its own, with the stack's addresses."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from local_stack.errors import StackError
from local_stack.programs import own_command
from local_stack.server import LOG_TAIL_LINES

STOP_SECONDS = 10.0


def run_logged(arguments: tuple[str, ...], environment: Mapping[str, str], log: Path) -> None:
    """Run `headrace ARGUMENTS` and append its output to the log. Blocking.

    Raises StackError with its last lines when it fails.
    """
    with log.open("a+b") as output:
        begin = output.tell()
        code = _run(arguments, environment, output.fileno())
        output.seek(begin)
        lines = output.read().decode("utf-8", "replace").splitlines()
    if code != 0:
        raise StackError(
            f"`headrace {' '.join(arguments)}` failed (exit code {code}).",
            log_lines=[line for line in lines if line.strip()][-LOG_TAIL_LINES:],
            remedy=f"Its whole output: {log}",
        )


def run_shown(arguments: tuple[str, ...], environment: Mapping[str, str]) -> int:
    """Run `headrace ARGUMENTS` on our own terminal; its exit code. Blocking."""
    return _run(arguments, environment, None)


def _run(arguments: tuple[str, ...], environment: Mapping[str, str], output: int | None) -> int:
    process = subprocess.Popen(
        own_command(*arguments),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
    )
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
