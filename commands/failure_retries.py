"""`headrace failures retry`, its replay jobs (`jobs`, `pause`, `cancel`), and `release` for held records."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from commands.failure_access import ask, ask_until, run, selecting
from commands.output import INTERRUPTED, WRONG_USAGE, fail, print_json, stderr, stdout, who
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from services.failures import candidates, listing, replay, replay_jobs
from services.failures import release as releasing
from services.failures.candidates import Plan
from services.failures.replay_jobs import ReplayJob
from services.failures.selection import Selection
from stores.failure_states import JobState

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Wait = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="Wait for the outcomes until none has come for so long.")
]
JobId = Annotated[int, typer.Argument(min=1, max=replay_jobs.MOST_ID, metavar="JOB")]


@selecting()
def retry(
    chosen: Selection,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come of it.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            min=replay_jobs.LOWEST_RATE,
            max=replay_jobs.HIGHEST_RATE,
            metavar="N",
            help="Send at most N records a second.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Send parked ones too, those that would fail again, and those of which a newer record is stored.",
        ),
    ] = False,
    resume: Annotated[
        int | None,
        typer.Option(min=1, max=replay_jobs.MOST_ID, metavar="JOB", help="Go on with a job that was paused."),
    ] = None,
    wait: Wait = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts, no progress.")] = False,
) -> None:
    """Send failures again, corrected if they were edited. Ctrl-C pauses; the job can be taken up again anywhere.

    What would fail again is left out, as --dry-run says, until it is edited or forced. A record is read with the
    mapping that it was published with; `headrace reprocess` reads it with the one that its source has now.

    Exit code 0 only if the job is done and nothing was skipped or failed again; 1 otherwise; 2 for wrong usage.

    Examples:

      headrace failures retry 17 18

      headrace failures retry --reason required --dataset customers --dry-run

      headrace failures retry --reason email_conflict --rate 500

      headrace failures retry --resume 3
    """
    settings = load_settings()
    if (resume is None) == chosen.is_empty:
        fail("name failures by id, or by a filter such as --reason, or a job with --resume", WRONG_USAGE)
    if dry_run:
        _plan(settings, chosen, force, as_json)
        return
    configure_logging(settings.model_copy(update={"log_level": "ERROR"}), "failures")
    if resume is None:
        resume = run(replay.start(settings, chosen, who(), rate=rate, force=force)).id
    job = _run(settings, resume, as_json)
    ended = ask_until(
        settings,
        lambda connection: replay_jobs.outcomes(connection, job.id),
        left=lambda outcomes: outcomes.get("replayed", 0),
        seconds=wait,
    )
    if as_json:
        print_json({"job": job, "outcomes": ended})
    else:
        words = ", ".join(f"{count:,} {state}" for state, count in ended.items()) or "nothing sent"
        stdout.print(f"Job {job.id} is {job.state}: {job.sent:,} sent, {job.skipped:,} skipped. Now: {words}.")
        if "failed_again" in ended:
            stdout.print("`headrace failures list` shows what failed again.", style="dim", markup=False)
    if job.state != "done" or job.skipped or "failed_again" in ended:
        raise typer.Exit(1)


@selecting()
def release(
    chosen: Selection,
    remap: Annotated[
        bool, typer.Option("--remap", help="Read them with the mapping that sources.toml has for their source now.")
    ] = False,
    wait: Wait = 30.0,
    as_json: AsJson = False,
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


def jobs(as_json: AsJson = False) -> None:
    """Show the latest replay jobs.

    Example:

      headrace failures jobs
    """
    found = ask(load_settings(), replay_jobs.jobs)
    if as_json:
        print_json(found)
    else:
        stdout.print(_jobs_table(found))


def pause(job: JobId, as_json: AsJson = False) -> None:
    """Pause a replay job, whichever process runs it; `retry --resume JOB` goes on.

    Example:

      headrace failures pause 3
    """
    _change(job, "paused", as_json)


def cancel(job: JobId, as_json: AsJson = False) -> None:
    """Cancel a replay job: what it has not sent is open again.

    Example:

      headrace failures cancel 3
    """
    _change(job, "cancelled", as_json)


def _change(job_id: int, state: JobState, as_json: bool) -> None:
    settings = load_settings()
    limit = settings.replay_limit
    job = ask(
        settings, lambda connection: replay_jobs.change_state(connection, job_id, state, who(), replay_limit=limit)
    )
    if as_json:
        print_json(job)
    else:
        stdout.print(f"Job {job.id} is {job.state}: {job.sent:,} of {job.total:,} sent.")


def _plan(settings: Settings, chosen: Selection, force: bool, as_json: bool) -> None:
    plan = run(candidates.plan(settings, chosen, force=force))
    if as_json:
        print_json(plan)
        return
    stdout.print(_plan_table(plan))
    again = f" ({plan.sent - plan.ready:,} would fail again)" if plan.sent > plan.ready else ""
    left = plan.total - plan.sent
    stdout.print(f"{plan.total:,} selected: {plan.sent:,} would be sent{again}, {left:,} left out. Nothing was sent.")


def _run(settings: Settings, job_id: int, as_json: bool) -> ReplayJob:
    columns = (TextColumn("job {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=stderr, disable=as_json or not stderr.is_terminal, transient=True) as bar:
            task = bar.add_task(str(job_id), total=None)

            def tell(job: ReplayJob) -> None:
                bar.update(task, completed=job.sent + job.skipped, total=job.total)

            return run(replay.run(settings, job_id, who(), tell))
    except KeyboardInterrupt:
        again = f"`headrace failures retry --resume {job_id}` goes on, `headrace failures cancel {job_id}` ends it"
        stderr.print(f"Job {job_id} is paused; {again}.", markup=False)
        raise typer.Exit(INTERRUPTED) from None


def _jobs_table(jobs: Sequence[ReplayJob]) -> Table:
    """A line per replay job."""
    table = Table("JOB", "STATE", "SENT", "SKIPPED", "TOTAL", "RATE", "WHO", "STARTED", "SELECTION", box=None)
    for job in jobs:
        rate = "-" if job.rate is None else f"{job.rate:g}/s"
        chosen = " ".join(f"{name}={value}" for name, value in job.selection.items())
        counts = (f"{number:,}" for number in (job.sent, job.skipped, job.total))
        table.add_row(str(job.id), job.state, *counts, rate, job.who, time_text(job.started_at), escape(chosen))
    return table


def _plan_table(plan: Plan) -> Table:
    """A line per dataset, reason and expectation of a dry run."""
    table = Table("DATASET", "REASON", "EXPECTED", "SENT", "COUNT", box=None)
    table.columns[4].justify = "right"
    for line in plan.lines:
        table.add_row(
            escape(line.dataset), escape(line.reason), line.expected, "yes" if line.sent else "no", f"{line.count:,}"
        )
    return table


def time_text(time: datetime | None) -> str:
    """Local time to the second."""
    return "-" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
