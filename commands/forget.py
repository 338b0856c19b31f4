"""`headrace forget`: a person's data, erased for ever."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from commands.output import WRONG_USAGE, fail, print_json, stdout
from commands.trouble import answered_by
from runtime.settings import load_settings
from schemas.registry import UnknownDataset, dataset_named
from services.forgetting.forget import CannotForget, Forgetting, forgotten_list, secrets_needed, undo
from services.forgetting.forget import forget as forget_key

T = TypeVar("T")

WAIT_SECONDS = 10.0


def forget(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="In any form: a customer_id, or a user's e-mail.")
    ] = None,
    dataset: Annotated[str, typer.Option("--dataset", "-d", metavar="NAME", help="The key's dataset.")] = "customers",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be erased.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="So long wait for the search index and the cache.")
    ] = WAIT_SECONDS,
    listed: Annotated[
        bool,
        typer.Option(
            "--list", help="Show who was forgotten (hashes, times, counts), and which secrets are still needed."
        ),
    ] = False,
    undone: Annotated[
        str | None, typer.Option("--undo", metavar="HASH", help="Let records of that key be stored again.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Erase a person for ever: the row, records about it (a customer's orders), raw records, failures, drifts.

    Search index and cache follow. Whatever comes of the key later, from a source or a retry, counts as deleted and is
    stored nowhere. Of the key itself only a hash is kept, made with FORGET_SECRET. Messages stay on the topics until
    their retention takes them; it says until when. Killed in between, run it again.

    Exit code 1 if something of the person is left in Postgres, or the followers have not followed yet.

    Examples:

      headrace forget CUST001 --dry-run

      headrace forget CUST001

      headrace forget ada@example.org --dataset users

      headrace forget --list
    """
    if [key is not None, listed, undone is not None].count(True) != 1:
        fail("name one KEY, or say --list, or --undo HASH", WRONG_USAGE)
    settings = load_settings()
    if listed:
        rows = _run(forgotten_list(settings))
        if as_json:
            print_json(rows)
        else:
            stdout.print(_table(rows) if rows else "Nobody was forgotten.")
            for line in secrets_needed(settings, rows):
                stdout.print(line, markup=False)
        return
    if undone is not None:
        name = _run(undo(settings, undone))
        stdout.print(f"Records of {name[:12]} are stored again from now on; what is erased stays erased.")
        return
    try:
        chosen = dataset_named(dataset)
    except UnknownDataset as error:
        fail(str(error), WRONG_USAGE)
    done = _run(forget_key(settings, chosen, key or "", dry_run=dry_run, wait=wait))
    if as_json:
        print_json(done)
    else:
        _tell(done)
    if done.left or any(said != "gone" for said in done.followers.values()):
        raise typer.Exit(1)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        with answered_by("Postgres"):
            return asyncio.run(work)
    except CannotForget as error:
        fail(str(error), WRONG_USAGE)


def _tell(done: Forgetting) -> None:
    counts = ", ".join(f"{table} {count:,}" for table, count in done.erased.items() if count) or "nothing"
    stdout.print(f"{'Would be erased' if done.dry_run else 'Erased'}: {counts}", markup=False)
    for store, said in done.followers.items():
        stdout.print(f"{store}: {said}", markup=False)
    for topic in done.topics:
        until = f"{topic.until:%Y-%m-%d %H:%M} UTC at the latest" if topic.until else "nobody can tell when"
        stdout.print(f"{topic.topic}: messages until {until}", markup=False)
    for place, rows in done.left.items():
        stdout.print(f"STILL in {place}: {rows:,} rows", style="red", markup=False)
    if not done.dry_run:
        stdout.print(f"Later records of the key count as deleted. It is kept as {done.hash[:12]}…", markup=False)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("HASH", "DATASET", "FORGOTTEN AT", "STATE", "ERASED", box=None)
    for row in rows:
        state = "undone" if row["undone_at"] else "done" if row["erased_at"] else "not ended: forget it again"
        erased = ", ".join(f"{name} {count:,}" for name, count in row["erased"].items() if count)
        table.add_row(row["hash"][:12], row["dataset"], f"{row['forgotten_at']:%Y-%m-%d %H:%M:%S}", state, erased)
    return table
