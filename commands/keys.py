"""`headrace keys …`: who may ask the API for what."""

import asyncio
import datetime
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from commands.output import WRONG_USAGE, fail, print_json, stderr, stdout
from commands.trouble import answered_by
from runtime.moments import moment_to_come
from runtime.scopes import Scope
from runtime.settings import load_settings
from services.runs.history import ask
from stores.api_keys import (
    ApiKey,
    KeyNotThere,
    NameTaken,
    NotTaken,
    create_key,
    keep_key,
    read_keys,
    revoke_keys,
    rotate_key,
)

keys = typer.Typer(no_args_is_help=True, help="API keys: who may ask the API for what.")

NAME = re.compile(r"(?![0-9a-f]{12}$)[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
"""Fit for a log line; and not in the form of an id, so that a command knows which of the two it is given."""

COLOURS = {"valid": "green", "expired": "dim", "revoked": "dim"}

T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="Whom or what it is for: letters, digits, dots, dashes and underscores.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Expires = Annotated[
    str | None, typer.Option(metavar="TIME", help="When it ends: in 12h, in 90d, or at a time in ISO 8601.")
]


@keys.command()
def create(
    name: Name,
    scope: Annotated[list[Scope], typer.Option(help="What it may do (repeatable). None includes another one.")],
    expires: Expires = None,
    given: Annotated[
        bool, typer.Option("--given", help="Keep the key on standard input instead of making one. Idempotent.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it: this once, since only its digest is kept. The API takes it at once.

    Scopes: read (records, the state of the pipeline), write (create, change, delete records),
    operate (start runs, deal with failures and jobs), personal (see personal data unmasked).

    Examples:

      headrace keys create dashboard --scope read --scope operate

      KEY=$(headrace keys create shop --scope read --scope write --expires 90d)

      headrace keys create dashboard --scope read --given < /run/secrets/headrace-api-key

      curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/api/customers
    """
    if not NAME.fullmatch(name):
        fail(f"{name!r} is no name for a key: letters, digits, dots, dashes and underscores, 60 at most", WRONG_USAGE)
    ends = _moment("--expires", expires)
    if given:
        text = sys.stdin.read().strip()
        kept = _ask(lambda connection: keep_key(connection, name, text, scope, ends))
        if as_json:
            print_json(_shown(kept))
        else:
            stdout.print(f"{kept.name} ({kept.id}) may {', '.join(sorted(kept.scopes))}.", markup=False)
        return
    _tell_new(*_ask(lambda connection: create_key(connection, name, scope, ends)), as_json=as_json)


@keys.command()
def rotate(
    name: Name,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old key still counts; 0s: not at all.")
    ] = "1d",
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key with the name and the scopes of an old one, which counts a while longer. Nothing is restarted.

    Without --expires the new key lives as long as the old one was made for.

    Examples:

      headrace keys rotate shop

      headrace keys rotate shop --grace 0s --expires 90d
    """
    old_ends, ends = _moment("--grace", grace, or_now=True), _moment("--expires", expires)
    assert old_ends is not None  # noqa: S101 (it has a default)
    _tell_new(*_ask(lambda connection: rotate_key(connection, name, old_ends, ends)), as_json=as_json)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID|NAME", help="One key by its id, or all of that name.")],
    as_json: AsJson = False,
) -> None:
    """End a key: the API refuses it within seconds.

    Examples:

      headrace keys revoke shop

      headrace keys revoke 4f1c0a9be2d7
    """
    revoked = _ask(lambda connection: revoke_keys(connection, key))
    if as_json:
        print_json([_shown(one) for one in revoked])
        return
    for one in revoked:
        stdout.print(f"Revoked {one.name} ({one.id}).", markup=False)


@keys.command("list")
def list_keys(
    every: Annotated[bool, typer.Option("--all", help="With those that have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the keys: their scopes, when they end, and when they were used last, which the API notes by the minute.

    Examples:

      headrace keys list

      headrace keys list --all --json | jq '.[] | select(.state == "valid").name'
    """
    found = [key for key in _ask(lambda connection: read_keys(connection, every=True)) if every or key.state == "valid"]
    if as_json:
        print_json([_shown(key) for key in found])
        return
    if not found:
        stdout.print("There is no valid key; `headrace keys create NAME --scope read` makes one.", markup=False)
        return
    table = Table("ID", "NAME", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED", box=None)
    for key in found:
        times = (_at(when) for when in (key.created_at, key.expires_at, key.last_used_at))
        table.add_row(key.id, key.name, ",".join(sorted(key.scopes)), key.state, *times, style=COLOURS[key.state])
    stdout.print(table)


def _ask(question: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    settings = load_settings()
    try:
        with answered_by("Postgres"):
            return asyncio.run(ask(settings, question))
    except (KeyNotThere, NameTaken, NotTaken) as error:
        fail(str(error))


def _moment(option: str, text: str | None, *, or_now: bool = False) -> datetime.datetime | None:
    try:
        return None if text is None else moment_to_come(text, datetime.datetime.now(datetime.UTC), or_now=or_now)
    except ValueError as error:
        fail(f"{option} {error}", WRONG_USAGE)


def _tell_new(key: ApiKey, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_shown(key) | {"key": text})
        return
    ends = f" until {_at(key.expires_at)}" if key.expires_at else ""
    stderr.print(f"{key.name} ({key.id}) may {', '.join(sorted(key.scopes))}{ends}. Its key, this once:", markup=False)
    typer.echo(text)


def _shown(key: ApiKey) -> dict[str, Any]:
    times = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return {"id": key.id, "name": key.name, "scopes": sorted(key.scopes), "state": key.state, **times}


def _at(when: datetime.datetime | None) -> str:
    return f"{when.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%SZ}" if when else "-"
