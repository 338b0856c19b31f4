"""`headrace failures retry`, and its replay jobs: `jobs`, `pause`, `cancel`."""

from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from commands.failure_access import ask, ask_until, run, who
from commands.failure_selection import Datasets, Ids, Keys, Reasons, Since, Sources, Until, selection
from commands.failure_tables import jobs_table, plan_table
from commands.output import INTERRUPTED, WRONG_USAGE, fail, print_json, stderr, stdout
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from services.failures import candidates, replay, replay_jobs
from services.failures.replay_jobs import ReplayJob
from services.failures.selection import Selection
from stores.failure_states import JobState

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts, no progress.")]
JobId = Annotated[int, typer.Argument(min=1, max=replay_jobs.MOST_ID, metavar="JOB")]


def retry(
    ids: Ids = None,
    dataset: Datasets = None,
    source: Sources = None,
    reason: Reasons = None,
    key: Keys = None,
    since: Since = None,
    until: Until = None,
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
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait for the outcomes until none has come for so long.")
    ] = 10.0,
    as_json: AsJson = False,
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
    chosen = selection(ids=ids, datasets=dataset, sources=source, reasons=reason, keys=key, since=since, until=until)
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


def jobs(as_json: AsJson = False) -> None:
    """Show the latest replay jobs.

    Example:

      headrace failures jobs
    """
    found = ask(load_settings(), replay_jobs.jobs)
    if as_json:
        print_json(found)
    else:
        stdout.print(jobs_table(found))


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
    stdout.print(plan_table(plan))
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
