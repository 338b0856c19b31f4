"""Seconds that the command line takes: --help, and status and lag of the running stack, beside a bare interpreter.

    HEADRACE_HOME=/tmp/bench python -m benchmarks.command_line [--json]

Candidates take turns, each in a process of its own, after one round that is not counted: it writes the modules'
compiled files. Without a running stack only --help is measured.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.results import RESULTS, record, spread
from local_stack.processes import examine
from local_stack.state_folder import StateFolder
from runtime.settings import load_settings

PROJECT = Path(__file__).parent.parent


class Call(NamedTuple):
    """One call of a command: seconds by the clock, and of CPU."""

    seconds: float
    cpu_seconds: float


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often; medians count.")] = 5,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure, print, and keep the figures."""
    words = commands()
    for command in words.values():
        call(command)
    calls = [{name: call(command) for name, command in words.items()} for _ in range(rounds)]
    figures = as_figures(calls)
    record("command_line", figures, results)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(figures)).decode())
        return
    table = Table("command", "s", "lowest", "highest", "CPU s")
    for name, row in figures["rows"].items():
        table.add_row(name, *(f"{row['seconds'][key]:.3f}" for key in ("median", "low", "high")), f"{row['cpu_s']:.3f}")
    Console().print(table)


def commands() -> dict[str, list[str]]:
    """What is called, by name."""
    ours = [sys.executable, "-m", "cli"]
    found = {"bare interpreter": [sys.executable, "-c", ""], "headrace --help": [*ours, "--help"]}
    if any(row.pid for row in examine(StateFolder.at(load_settings().home))):
        found |= {"headrace status": [*ours, "status", "--json"], "headrace lag": [*ours, "lag", "--json"]}
    return found


def call(words: list[str]) -> Call:
    """Call a command. Raises RuntimeError when it fails."""
    before, began = _children_cpu(), time.perf_counter()
    done = subprocess.run(words, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return Call(seconds, _children_cpu() - before)


def _children_cpu() -> float:
    """CPU seconds of the children of this process that have ended, in µs exact."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def as_figures(calls: list[dict[str, Call]]) -> dict[str, Any]:
    """The figures for scripts."""
    rows: dict[str, dict[str, Any]] = {
        name: {
            "seconds": spread((one[name].seconds for one in calls), 3),
            "cpu_s": round(median(one[name].cpu_seconds for one in calls), 3),
        }
        for name in calls[0]
    }
    bare, ours = rows["bare interpreter"], rows["headrace --help"]
    return {
        "rounds": len(calls),
        "rows": rows,
        "help_seconds": ours["seconds"]["median"],
        "help_cpu_to_bare": round(ours["cpu_s"] / max(bare["cpu_s"], 0.001), 1),
    }


if __name__ == "__main__":
    typer.run(main)
