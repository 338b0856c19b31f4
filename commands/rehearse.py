"""`headrace rehearse`: make one stage fail for a while, and see what the pipeline, its alarms and its people do."""

import re
import time
import uuid
from typing import Annotated

import typer

from commands.output import WRONG_USAGE, fail, print_json, stdout, who
from local_stack.programs import health_of_group
from local_stack.state_folder import StateFolder
from rehearsals.file import SHARES, STAGES, Kind, RefusedRehearsal, Rehearsal, begin, end, file_of, running
from runtime.settings import Settings, load_settings

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

rehearse = typer.Typer(invoke_without_command=True, no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def _stage(name: str) -> str:
    if name not in STAGES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, STAGES))}.")
    return name


@rehearse.callback()
def start(
    context: typer.Context,
    stage: Annotated[
        str | None, typer.Option(parser=_stage, metavar=f"[{'|'.join(STAGES)}]", help="Which stage is to fail.")
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="invalid: rejects records. crash: dies as by kill -9. slow: waits before each batch. outage: its "
            "store, or source, is away.",
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="NAME", help="Only records of this source.")] = None,
    percent: Annotated[
        float | None,
        typer.Option(help="Of records (invalid) or batches (others). By default 5, for slow and outage 100."),
    ] = None,
    lasts: Annotated[str, typer.Option("--for", metavar="TIME", help="Ends by itself: 60s, 5m, at most 1h.")] = "60s",
    delay: Annotated[str, typer.Option(metavar="TIME", help="slow: per batch, e.g. 200ms or 2s.")] = "500ms",
    as_json: AsJson = False,
) -> None:
    """Rehearse a failure: let one stage fail for a while. Needs REHEARSALS=true, in the stack and here.

    Failures have the reason code `rehearsal`: `headrace failures retry --reason rehearsal` sends such records again.

    Examples:

      headrace rehearse --stage normalizer --kind invalid --source titanic --percent 5 --for 60s

      headrace rehearse --stage postgres --kind outage --for 30s

      headrace rehearse status

      headrace rehearse stop
    """
    if context.invoked_subcommand:
        return
    settings = load_settings()
    if not settings.rehearsals:
        fail(
            "rehearsals are not enabled: REHEARSALS is false. Set REHEARSALS=true in the environment or in .env, "
            "restart the stack (`headrace down`, `headrace up`), and do that only where a failure hurts nobody"
        )
    if stage is None or kind is None:
        fail("say which --stage is to fail, and which --kind of failure; see `headrace rehearse --help`", WRONG_USAGE)
    if unaware := _unaware(settings, stage):
        fail(
            f"{', '.join(unaware)}: started without REHEARSALS=true, and would not notice; with that in .env or the "
            "environment, `headrace down` and `headrace up`"
        )
    now = time.time()
    rehearsal = Rehearsal(
        id=uuid.uuid4().hex[:8],
        stage=stage,
        kind=kind,
        percent=SHARES[kind] if percent is None else percent,
        started_at=now,
        ends_at=now + _seconds("--for", lasts),
        source=source,
        delay_seconds=_seconds("--delay", delay),
        who=who(),
    )
    try:
        begin(settings.home, rehearsal)
    except RefusedRehearsal as error:
        fail(str(error), WRONG_USAGE)
    except OSError as error:
        fail(f"{file_of(settings.home)} cannot be written: {error.strerror}")
    if as_json:
        print_json(rehearsal)
    else:
        stdout.print(f"Rehearsal {rehearsal}; `headrace rehearse stop` ends it now.", markup=False)


@rehearse.command()
def status(as_json: AsJson = False) -> None:
    """Show what is being rehearsed. `headrace status` and the /health of the processes tell it too.

    Example:

      headrace rehearse status --json
    """
    found = running(load_settings().home)
    if as_json:
        print_json(found)
        return
    for one in found:
        stdout.print(f"{one} (by {one.who})", markup=False)
    if not found:
        stdout.print("Nothing is being rehearsed.")


@rehearse.command()
def stop(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Which; all if none is named.")] = None,
    as_json: AsJson = False,
) -> None:
    """End rehearsals now; the processes know within a second.

    Example:

      headrace rehearse stop
    """
    home = load_settings().home
    if unknown := sorted(set(ids or []) - {one.id for one in running(home)}):
        fail(f"no rehearsal {unknown[0]!r} is running; `headrace rehearse status` lists them", WRONG_USAGE)
    ended = end(home, set(ids) if ids else None)
    if as_json:
        print_json(ended)
    else:
        stdout.print(f"Ended {len(ended)}." if ended else "Nothing is being rehearsed.")


def _unaware(settings: Settings, stage: str) -> list[str]:
    """The stage's running processes in the local stack that do not read rehearsals."""
    record = StateFolder.at(settings.home).read_record()
    if not record.ports or record.servers_only:
        return []
    answers = health_of_group(record, stage if stage == "normalizer" else f"sink-{stage}")
    # One that does not answer will read them once it is started.
    return [name for name, answer in answers.items() if answer is not None and "rehearsals" not in answer]


def _seconds(option: str, text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if match is None:
        fail(f"{option} {text!r}: expected a number and ms, s, m or h, e.g. 60s", WRONG_USAGE)
    return float(match[1]) * _UNITS[match[2]]
