"""All benchmarks in order, on servers and a stack of their own, and then the tables and pictures.

    python -m benchmarks                            # commands, stages, whole, reads: a quarter of an hour
    python -m benchmarks stages --rounds 1 --size 20000
    python -m benchmarks peers                      # other projects' tools; installs them first

Needs a machine that does nothing else, and wrk for reads. A benchmark that fails is named in the end, and the others
are run; exit code 1 then, or if one misses its target.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.results import RESULTS

PROJECT = Path(__file__).parent.parent
HEADRACE = [sys.executable, "-m", "cli"]

BUSY = 0.5
"""Processes that wait for a core, on average over a minute, from which on a machine is not called quiet."""


class Step(NamedTuple):
    """One benchmark: its module, the name of its option for the number of records, and options that it always has."""

    module: str
    size: str | None = None
    options: tuple[str, ...] = ()
    rounds: bool = True


SERVERS_ONLY = ("--servers-only",)
NOTHING_INGESTED = ("--no-ingest",)

PARTS: dict[str, tuple[tuple[str, ...] | None, tuple[Step, ...]]] = {
    "stages": (
        SERVERS_ONLY,
        (
            Step("faust_stage", "--records"),
            Step("faust_stage", None, ("--memory",), rounds=False),
            Step("postgres_sink", "--records"),
            Step("elasticsearch_sink", "--records"),
            Step("csv_source"),
        ),
    ),
    "whole": (NOTHING_INGESTED, (Step("whole", "--records"), Step("command_line"), Step("reads"))),
    "peers": (SERVERS_ONLY, (Step("peers.normalize", "--records"), Step("peers.store", "--records"))),
    "peers_whole": (None, (Step("peers.whole", "--records"),)),
}
"""What `headrace up` is told, and what then runs on that stack; None for what starts servers of its own.

The latency of the first seconds after the start is measured first.
"""

USUAL = ("stages", "whole")
"""Without the peers, whose installation takes longer than all the rest."""


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(PARTS)}; usually {USUAL}.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds; by default each benchmark's own.")] = None,
    size: Annotated[int | None, typer.Option(min=1000, help="Records; by default each benchmark's own.")] = None,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures.")] = RESULTS,
) -> None:
    """Run benchmarks, then write tables and pictures."""
    chosen = parts or list(USUAL)
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if (load := os.getloadavg()[0]) > BUSY:
        typer.echo(
            f"This machine is busy (load {load:.1f}): read the ratios, and do not publish the figures.", err=True
        )
    failed = [name for part in chosen for name in run_part(part, rounds, size, results.absolute())]
    if results == RESULTS:
        subprocess.run([sys.executable, "-m", "benchmarks.report"], cwd=PROJECT, check=True)
    if failed:
        typer.echo(f"failed or missed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def run_part(part: str, rounds: int | None, size: int | None, results: Path) -> list[str]:
    """Run the benchmarks of one part, on a stack that is gone afterwards. The names of those that failed."""
    words, steps = PARTS[part]
    failed: list[str] = []
    with stack(words) as environment:
        for step in present(steps):
            began = time.monotonic()
            typer.echo(f"=== {step.module} {' '.join(step.options)}")
            if subprocess.run(
                arguments(step, rounds, size, results), cwd=PROJECT, env=environment, check=False
            ).returncode:
                failed.append(" ".join([step.module, *step.options]))
            typer.echo(f"=== {step.module}: {time.monotonic() - began:.0f} s")
    return failed


def present(steps: tuple[Step, ...]) -> list[Step]:
    """Those of the steps whose benchmark this checkout has."""
    return [step for step in steps if (PROJECT / "benchmarks" / f"{step.module.replace('.', '/')}.py").exists()]


def arguments(step: Step, rounds: int | None, size: int | None, results: Path) -> list[str]:
    """The command that runs one benchmark. Pure but for the interpreter's path."""
    words = [sys.executable, "-m", f"benchmarks.{step.module}", *step.options, "--results", str(results)]
    if rounds and step.rounds:
        words += ["--rounds", str(rounds)]
    elif not step.rounds:
        words += ["--rounds", "1"]
    if size and step.size:
        words += [step.size, str(size)]
    return words


@contextmanager
def stack(words: tuple[str, ...] | None) -> Iterator[dict[str, str]]:
    """The environment of a running stack with free ports, whose data are deleted in the end; None starts nothing."""
    if words is None:
        yield dict(os.environ)
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", ignore_cleanup_errors=True) as home:
        environment = os.environ | {"HEADRACE_HOME": str(Path(home) / "stack")}
        try:
            subprocess.run([*HEADRACE, "up", "--free-ports", *words], cwd=PROJECT, env=environment, check=True)
            yield environment
        finally:
            subprocess.run([*HEADRACE, "clean", "--yes"], cwd=PROJECT, env=environment, check=False)


if __name__ == "__main__":
    typer.run(main)
