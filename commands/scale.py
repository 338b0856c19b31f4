"""`headrace scale`: more or fewer workers of a role in the running stack."""

from typing import Annotated

import typer

from commands.output import fail, print_json, stderr, stdout
from local_stack.programs import SCALABLE
from local_stack.scaling import read_counts
from local_stack.steps import Steps
from runtime.settings import load_settings
from services.scaling import scale_stack


def scale(
    counts: Annotated[
        list[str],
        typer.Argument(metavar="ROLE=N…", help=f"{', '.join(SCALABLE)}, and how many."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print {counts, added, removed, warnings} when it is done.")
    ] = False,
) -> None:
    """Run so many workers of a role in the running stack, and in those that `headrace up` starts from now on.

    Returns when each new worker is healthy and each superfluous one has finished what it had in hand, left its
    consumer group and ended. Other processes are left alone. More workers than partitions is allowed, and warned of.

    Examples:

      headrace scale normalizer=3 postgres=2

      headrace scale normalizer=1 --json
    """
    settings = load_settings()
    if settings.headrace_stack == "docker":
        fail("Containers are scaled by compose: docker compose up -d --wait --scale normalizer=3")
    wanted = read_counts(counts)
    with Steps(stderr if as_json else stdout) as steps:
        done, warnings = scale_stack(settings, wanted, steps)
    if as_json:
        print_json({"counts": done.counts, "added": done.added, "removed": done.removed, "warnings": warnings})
        return
    for warning in warnings:
        stderr.print(f"Warning: {warning}", markup=False)
    running = ", ".join(f"{number} {role}" for role, number in done.counts.items())
    stdout.print(f"Running: {running}.", markup=False)
