"""Failures and replay jobs as tables on a terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from services.failures.candidates import Plan
from services.failures.listing import FailureGroup
from services.failures.replay_jobs import ReplayJob

LONGEST_MESSAGE = 80


def groups_table(groups: Sequence[FailureGroup]) -> Table:
    """A line per dataset, stage and reason."""
    table = Table("DATASET", "STAGE", "REASON", "COUNT", "FIRST SEEN", "LAST SEEN", "EXAMPLE", box=None)
    table.columns[3].justify = "right"
    for group in groups:
        seen = time_text(group.first_seen), time_text(group.last_seen)
        table.add_row(
            *map(escape, (group.dataset, group.stage, group.reason)), f"{group.count:,}", *seen, str(group.example_id)
        )
    return table


def items_table(rows: Sequence[Mapping[str, Any]]) -> Table:
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


def jobs_table(jobs: Sequence[ReplayJob]) -> Table:
    """A line per replay job."""
    table = Table("JOB", "STATE", "SENT", "SKIPPED", "TOTAL", "RATE", "WHO", "STARTED", "SELECTION", box=None)
    for job in jobs:
        rate = "-" if job.rate is None else f"{job.rate:g}/s"
        chosen = " ".join(f"{name}={value}" for name, value in job.selection.items())
        counts = (f"{number:,}" for number in (job.sent, job.skipped, job.total))
        table.add_row(str(job.id), job.state, *counts, rate, job.who, time_text(job.started_at), escape(chosen))
    return table


def plan_table(plan: Plan) -> Table:
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
