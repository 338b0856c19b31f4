"""`headrace failures release`: lets held records of a source that was over the failure limit go on."""

from dataclasses import replace
from typing import Annotated

import typer

from commands.failure_access import ask_until, run, who
from commands.failure_selection import Datasets, Ids, Keys, Reasons, Since, Sources, Until, selection
from commands.output import WRONG_USAGE, fail, print_json, stdout
from runtime.logging import configure_logging
from runtime.settings import load_settings
from services.failures import listing
from services.failures import release as releasing


def release(
    ids: Ids = None,
    dataset: Datasets = None,
    source: Sources = None,
    reason: Reasons = None,
    key: Keys = None,
    since: Since = None,
    until: Until = None,
    remap: Annotated[
        bool, typer.Option("--remap", help="Read them with the mapping that sources.toml has for their source now.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait for the outcomes until none has come for so long.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Let held records go on: each is normalized again under its own coordinates, so a newer record wins.

    A record that fails now is a failure like any other. Edited records go on as they were edited. Run again, it
    releases what is still held, and nothing twice.

    Exit code 0 only if none of them is held any more; 1 otherwise; 2 for wrong usage.

    Examples:

      headrace failures release --source shop

      headrace failures release --source shop --remap

      headrace failures release 17 18
    """
    settings = load_settings()
    chosen = selection(ids=ids, datasets=dataset, sources=source, reasons=reason, keys=key, since=since, until=until)
    if chosen.is_empty:
        fail("name held records by id, or by a filter such as --source", WRONG_USAGE)
    configure_logging(settings.model_copy(update={"log_level": "ERROR"}), "failures")
    released = run(releasing.release(settings, chosen, who(), remap=remap))
    held = replace(chosen, states=("held",))
    seconds = wait if released.sent else 0
    left = ask_until(settings, lambda connection: listing.count(connection, held), left=int, seconds=seconds)
    if as_json:
        print_json({"released": released.sent, "gone": released.gone, "still_held": left})
    else:
        gone = f" {released.gone:,} are nowhere any more and can only be discarded." if released.gone else ""
        stdout.print(f"Released {released.sent:,}; {left:,} of those selected are still held.{gone}", markup=False)
    if left:
        raise typer.Exit(1)
