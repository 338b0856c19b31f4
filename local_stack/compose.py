"""The stack in containers, by way of `docker compose`: what `headrace` does with HEADRACE_STACK=docker."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from local_stack.containers import BROKERS, addresses_of_containers, standing_of_container
from local_stack.errors import StackError
from local_stack.programs import PROJECT
from local_stack.server import LOG_TAIL_LINES
from local_stack.standing import Standing
from local_stack.state_folder import write_atomically
from runtime.settings import COMPOSE_ENV

FILE = PROJECT / "docker-compose.yml"
SERVERS = ("kafka", "postgres", "redis", "elasticsearch")

EVERYTHING = ("--profile", "*")
"""Containers of profiles that are not asked for now may be there since the last start."""


def up(home: Path, *, brokers: int | None, servers_only: bool) -> dict[str, str]:
    """Build the image, start what does not run and wait until all is healthy and the first ingestion is in Postgres.

    Blocking: minutes at first. Idempotent. The addresses go to `compose.env` in `home` and are returned. Raises
    StackError; what has started then goes on, for a look at its logs.
    """
    if brokers not in (None, 1, 3):
        raise StackError(f"A cluster of {brokers} brokers is not offered in containers.", remedy="Choose 1 or 3.")
    cluster = {} if brokers is None else {"COMPOSE_PROFILES": "cluster" if brokers == 3 else ""}
    brokers_too = BROKERS[1:] if cluster.get("COMPOSE_PROFILES") else ()
    chosen = (*SERVERS, *brokers_too) if servers_only else ()
    words = ["up", "--detach", "--wait", *([] if servers_only else ["--build"]), *chosen]
    if code := _run(words, os.environ | cluster, output=sys.stderr):
        raise StackError(
            f"`docker compose {' '.join(words)}` failed (exit code {code}; its output is above).",
            remedy="See `HEADRACE_STACK=docker headrace status` and `… logs SERVICE`, then run this again.",
        )
    addresses = running_addresses()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(home / COMPOSE_ENV, "".join(f"{name}={value}\n" for name, value in addresses.items()))
    return addresses


def down(home: Path, *, volumes: bool = False) -> bool:
    """Stop and remove the containers, and with `volumes` their data. Blocking, idempotent; False if there were none.

    Raises StackError when it fails.
    """
    there = bool(_inspect())
    if code := _run([*EVERYTHING, "down", *(["--volumes"] if volumes else [])], os.environ):
        raise StackError(f"`docker compose down` failed (exit code {code}; its output is above).")
    (home / COMPOSE_ENV).unlink(missing_ok=True)
    return there


def examine_containers() -> list[Standing]:
    """How every container stands; those of one-shot services are done. Raises StackError without a daemon."""
    return sorted(map(standing_of_container, _inspect()), key=lambda standing: standing.name)


def running_addresses() -> dict[str, str]:
    """Where the running containers are reached from this machine, as `runtime.settings` reads it; empty if none runs.

    Raises StackError without a daemon.
    """
    return addresses_of_containers(_inspect())


def show_logs(names: Sequence[str], *, follow: bool, lines: int) -> int:
    """Print the services' logs on our own terminal; compose's exit code. Raises StackError without Docker."""
    following = ["--follow"] if follow else []
    return _run([*EVERYTHING, "logs", "--tail", str(lines), *following, *names], os.environ)


def _inspect() -> list[dict[str, Any]]:
    ids = _output(_compose([*EVERYTHING, "ps", "--all", "--quiet"])).split()
    found: list[dict[str, Any]] = json.loads(_output([_docker(), "inspect", *ids])) if ids else []
    return found


def _run(words: Sequence[str], environment: Mapping[str, str], output: TextIO | None = None) -> int:
    """Run compose on our own terminal; its exit code. `output`: where what it prints on stdout goes, if not there."""
    command = _compose(words)
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, check=False).returncode


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise StackError(
            f"`docker {' '.join(command[1:])}` failed (exit code {done.returncode}).",
            log_lines=done.stderr.splitlines()[-LOG_TAIL_LINES:],
            remedy="Is the Docker daemon running (`docker info`), and compose installed (`docker compose version`)?",
        )
    return done.stdout


def _compose(words: Sequence[str]) -> list[str]:
    if not FILE.exists():
        raise StackError(
            f"There is no {FILE}: this installation is not a checkout.", remedy="Run it in a checkout of the project."
        )
    return [_docker(), "compose", "--file", str(FILE), *words]


def _docker() -> str:
    if program := shutil.which("docker"):
        return program
    raise StackError(
        "HEADRACE_STACK=docker, and there is no `docker` on PATH.",
        remedy="Install Docker with its compose plugin, or leave HEADRACE_STACK out: the stack runs without it.",
    )
