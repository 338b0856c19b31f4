"""Arguments and options with which the `failures` commands select failures."""

import datetime
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from commands.output import WRONG_USAGE, fail
from services.failures.actions import MOST_ID, MOST_IDS
from services.failures.selection import InvalidSelection, Selection

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Ids = Annotated[
    list[int] | None,
    typer.Argument(min=1, max=MOST_ID, metavar="ID…", help="Failures or held records, or a filter instead."),
]
Datasets = Annotated[list[str] | None, typer.Option("--dataset", metavar="NAME", help="Of this dataset (repeatable).")]
Sources = Annotated[list[str] | None, typer.Option("--source", metavar="NAME", help="Of this source (repeatable).")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", metavar="CODE", help="With this reason (repeatable).")]
Keys = Annotated[list[str] | None, typer.Option("--key", metavar="KEY", help="Of this key (repeatable).")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Failed then or later: 30m, 2h, 1d ago, or ISO 8601.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Failed before that.")]


def selection(
    *,
    ids: Sequence[int] | None = None,
    datasets: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    states: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
) -> Selection:
    """The selection that the options make. Exits with code 2 for a wrong value."""
    if ids and len(ids) > MOST_IDS:
        fail(f"at most {MOST_IDS:,} ids at once; a filter may select more", WRONG_USAGE)
    try:
        return Selection(
            ids=tuple(ids or ()),
            datasets=tuple(datasets or ()),
            sources=tuple(sources or ()),
            reasons=tuple(reasons or ()),
            keys=tuple(keys or ()),
            states=tuple(states),
            since=selected_time("--since", since),
            until=selected_time("--until", until),
        )
    except InvalidSelection as error:
        fail(str(error), WRONG_USAGE)


def selected_time(option: str, text: str | None) -> datetime.datetime | None:
    """The time that an option names, 30m ago or ISO 8601. Exits with code 2 for a wrong value."""
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.datetime.now(datetime.UTC) - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        fail(f"{option} {text!r}: expected e.g. 30m, 2h, 1d or 2025-03-01T12:00", WRONG_USAGE)
