"""`headrace failures …`: look at rejected records (dead letters), correct them, send them again, or discard them."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from commands.failure_access import Ids, ask, run, selecting, selection
from commands.failure_retries import AsJson, cancel, jobs, pause, release, retry, time_text
from commands.output import WRONG_USAGE, fail, print_json, stdout, who
from runtime.settings import load_settings
from services.failures import actions, editing, listing
from services.failures.editing import Edited
from services.failures.held_lines import held_lines
from services.failures.listing import Failure, FailureGroup, payload_text
from services.failures.selection import InvalidSelection, Selection
from stores.failure_states import UNSETTLED, StillInvalid

failures = typer.Typer(
    no_args_is_help=True,
    help="Rejected records (dead letters), which Postgres keeps: list, show, edit, retry or discard them.",
)
for command in (retry, release, jobs, pause, cancel):
    failures.command()(command)

LONGEST_MESSAGE = 80

FailureId = Annotated[int, typer.Argument(min=1, max=actions.MOST_ID, metavar="ID")]


@failures.command("list")
@selecting("ids")
def list_failures(
    chosen: Selection,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="In this state (repeatable); `all` for every state.")
    ] = None,
    flat: Annotated[bool, typer.Option("--flat", help="Single failures, newest first, instead of groups.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="--flat: how many.")] = 50,
    before: Annotated[
        int | None,
        typer.Option(min=1, max=actions.MOST_ID, metavar="ID", help="--flat: only those older than this one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show failures by dataset, stage and reason code; those that are settled only with --state.

    Examples:

      headrace failures list

      headrace failures list --dataset customers --since 2h

      headrace failures list --flat --reason required --limit 20
    """
    settings = load_settings()
    masked = settings.personal_data == "masked"
    try:
        chosen = replace(chosen, states=() if state == ["all"] else tuple(state or UNSETTLED))
    except InvalidSelection as error:
        fail(str(error), WRONG_USAGE)
    if not flat:
        groups = ask(settings, lambda connection: listing.groups(connection, chosen))
        if as_json:
            print_json(groups)
        elif groups:
            stdout.print(_groups_table(groups))
        else:
            stdout.print("No failures are selected.")
        if not as_json:
            for line in asyncio.run(held_lines(settings)):
                stdout.print(line, markup=False)
        return
    rows = ask(settings, lambda connection: listing.page(connection, chosen, limit, before, masked=masked))
    if as_json:
        print_json(rows)
        return
    stdout.print(_items_table(rows))
    if len(rows) == limit:
        stdout.print(f"Older ones: --before {rows[-1]['id']}", style="dim")


@failures.command()
def show(failure_id: FailureId, as_json: AsJson = False) -> None:
    """Show everything about a failure: its bytes, each field's problem, where it came from, what was done about it.

    Example:

      headrace failures show 17
    """
    settings = load_settings()
    masked = settings.personal_data == "masked"
    shown = ask(settings, lambda connection: listing.shown(connection, failure_id, masked=masked))
    if as_json:
        print_json(shown)
        return
    # The message repeats the problem of each field, for the list.
    told = {"problems", "payload", "edited_payload", "history"} | ({"message"} if shown["problems"] else set())
    for name, value in shown.items():
        if name not in told and value is not None:
            stdout.print(f"[bold]{name:<19}[/] {escape(str(value))}")
    for problem in shown["problems"]:
        stdout.print(f"  [yellow]{escape(problem['field'])}[/] {problem['code']}: {escape(problem['message'])}")
    for name in ("payload", "edited_payload"):
        if content := shown[name]:
            stdout.print(f"[bold]{name}[/] ({content['encoding']})")
            stdout.print(content["content"], markup=False)
    for entry in shown["history"]:
        note = f": {entry['note']}" if entry["note"] else ""
        stdout.print(f"{time_text(entry['at'])}  {entry['action']} by {entry['who']}{note}", markup=False)


@failures.command()
def edit(
    failure_id: FailureId,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field (repeatable); empty: none.")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="The whole payload, as it is to be sent.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Keep it although it would fail again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Correct the payload that a retry sends. It must be valid now; the payload before and after are kept.

    Examples:

      headrace failures edit 17 --set email=ada@example.org --set last_name=Lovelace

      headrace failures edit 17 --file corrected.json
    """
    if bool(values) == bool(file):
        fail("say either --set FIELD=VALUE or --file FILE", WRONG_USAGE)
    try:
        payload = file.read_bytes() if file else None
    except OSError as error:
        fail(f"--file {file}: {error.strerror}", WRONG_USAGE)
    settings = load_settings()
    pairs = _pairs(values or [])

    async def change() -> Edited | StillInvalid:
        try:
            return await editing.edit(settings, failure_id, who(), values=pairs, payload=payload, force=force)
        except StillInvalid as error:
            return error

    edited = run(change())
    if isinstance(edited, StillInvalid):
        lines = [f"  {problem.field} {problem.code}: {problem.message}" for problem in edited.problems]
        hint = "nothing was changed; correct it, or keep it as it is with --force"
        fail("\n".join([f"failure {failure_id} would fail again ({edited.reason}): {hint}", *lines]))
    if settings.personal_data == "masked":
        edited = edited.masked()
    if as_json:
        after = payload_text(edited.after)
        print_json({"before": payload_text(edited.before), "after": after, "valid": edited.valid})
        return
    verdict = "It is valid now" if edited.valid else "It is still not valid"
    stdout.print(f"{verdict}; `headrace failures retry {failure_id}` sends it.", markup=False)


@failures.command()
def discard(
    reason_text: Annotated[str, typer.Option("--reason-text", metavar="TEXT", help="Why; it is kept.")],
    ids: Ids = None,
    source: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="All held records of this source (repeatable).")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="All held records of this dataset (repeatable).")
    ] = None,
) -> None:
    """Decide against failures: they are no longer listed, and stay in Postgres with the reason.

    Examples:

      headrace failures discard 17 18 --reason-text 'test data of the supplier'

      headrace failures discard --source shop --reason-text 'sent by mistake'
    """
    settings = load_settings()
    chosen = selection(ids, dataset, source)
    if bool(ids) == bool(source or dataset):
        fail("name failures by id, or held records by --source or --dataset", WRONG_USAGE)
    if ids:
        ask(settings, lambda connection: actions.discard(connection, ids, who(), reason_text))
        count = len(set(ids))
    else:
        count = ask(settings, lambda connection: actions.discard_held(connection, chosen, who(), reason_text))
    stdout.print(f"Discarded {count:,}.")


def _groups_table(groups: list[FailureGroup]) -> Table:
    """A line per dataset, stage and reason."""
    table = Table("DATASET", "STAGE", "REASON", "COUNT", "FIRST SEEN", "LAST SEEN", "EXAMPLE", box=None)
    table.columns[3].justify = "right"
    for group in groups:
        seen = time_text(group.first_seen), time_text(group.last_seen)
        table.add_row(
            *map(escape, (group.dataset, group.stage, group.reason)), f"{group.count:,}", *seen, str(group.example_id)
        )
    return table


def _items_table(rows: list[Failure]) -> Table:
    """A line per failure."""
    table = Table("ID", "DATASET", "SOURCE", "KEY", "REASON", "STATE", "RETRIES", "FAILED AT", "MESSAGE", box=None)
    for row in rows:
        words = (row["dataset"], row["source_name"] or "-", row["key"] or "-", row["reason"], row["state"])
        message = row["message"].replace("\n", " ")
        shown = message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"
        table.add_row(
            str(row["id"]), *map(escape, words), str(row["attempts"]), time_text(row["failed_at"]), escape(shown)
        )
    return table


def _pairs(values: list[str]) -> dict[str, object]:
    pairs: dict[str, object] = {}
    for pair in values:
        field, equals, value = pair.partition("=")
        if not (field and equals):
            fail(f"--set {pair!r}: expected FIELD=VALUE", WRONG_USAGE)
        pairs[field] = value or None
    return pairs
