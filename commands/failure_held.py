"""`headrace failures release`: lets held records of a source that was over the failure limit go on."""

import time
from dataclasses import replace
from typing import Annotated

import typer

from commands.failure_access import ask, run, who
from commands.failure_selection import WRONG_USAGE, Datasets, Ids, Keys, Reasons, Since, Sources, Until, selection
from commands.output import fail, print_json, stdout
from runtime.logging import configure_logging
from runtime.patience import Patience
from runtime.settings import Settings, load_settings
from services.failures import listing
from services.failures import release as releasing
from services.failures.selection import Selection

ASK_AGAIN_SECONDS = 0.2


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
    """Let held records go on: each is normalized anew and stored under its own coordinates, so a newer record wins.

    What fails now is a failure like any other. Records that were edited go on as they were edited. Asked for again it
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
    left = _left(settings, chosen, wait if released.sent else 0)
    if as_json:
        print_json({"released": released.sent, "gone": released.gone, "still_held": left})
    else:
        gone = f" {released.gone:,} are nowhere any more and can only be discarded." if released.gone else ""
        stdout.print(f"Released {released.sent:,}; {left:,} of those selected are still held.{gone}", markup=False)
    if left:
        raise typer.Exit(1)


def _left(settings: Settings, chosen: Selection, seconds: float) -> int:
    held = replace(chosen, states=("held",))
    patience = Patience(seconds)
    while True:
        left = ask(settings, lambda connection: listing.count(connection, held))
        patience.note(left)
        if not left or not patience.remaining:
            return left
        time.sleep(ASK_AGAIN_SECONDS)
