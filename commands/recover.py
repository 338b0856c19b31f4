"""`headrace recover`: after Postgres was restored from a backup, read again what it has not."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from commands.failure_access import time_of
from commands.output import fail, print_json, stdout
from commands.trouble import answered_by
from runtime.errors import Explained
from runtime.settings import load_settings
from services.recovery import Recovery
from services.recovery import recover as set_back


def recover(
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Read again what was written then or later: 30m, 2h, 1d ago, or ISO 8601."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Have the sinks read again what a restored Postgres has not, after it was restored from an older backup.

    The groups of the Postgres and the landing sink stand in Kafka where the lost database was. They are set back to the
    oldest raw record that the restored one does not account for; what it has already stays as it is. Row versions
    continue above all that search and cache can hold of the lost database, so that both follow again.

    Stop the processes of the pipeline first. Then restore, call this, start the processes, and check with
    `headrace audit --wait 60` and `headrace audit --deep --repair`. Exit code 1 while one of the two sinks runs.
    Nothing happens where nothing is missing, and twice is as good as once.

    --since is for work that was done after the backup on records that it has, such as `headrace reprocess`.

    Examples:

      headrace recover

      headrace recover --since 2d --json
    """
    settings = load_settings()
    moment = time_of("--since", since)
    try:
        with answered_by("Postgres", soon=False):
            done = asyncio.run(set_back(settings, round(moment.timestamp() * 1000) if moment else None))
    except Explained as error:
        fail(str(error))
    if as_json:
        print_json(msgspec.to_builtins(done))
    else:
        stdout.print("\n".join(_lines(done)), markup=False)


def _lines(done: Recovery) -> list[str]:
    lines = [f"Postgres lacks {done.uncovered:,} raw offsets that Kafka still has."]
    if done.since_ms is not None:
        moment = datetime.fromtimestamp(done.since_ms / 1000, UTC)
        lines.append(f"Clean and failed records are read again since {moment:%Y-%m-%d %H:%M:%S} UTC.")
    lines += [
        f"  {one.group}: {one.topic}/{one.partition} from {one.committed:,} back to {one.offset:,}"
        for one in done.set_back
    ]
    if not done.set_back:
        lines.append("No group had to be set back.")
    return [
        *lines,
        f"Row versions go on above {done.first_version:,}.",
        "Start the processes, then: headrace audit --wait 60, headrace audit --deep --repair",
    ]
