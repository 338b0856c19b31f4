"""Deals with many dead letters at once: says first what would come of it, then does it, and shows how far it is."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dashboard.api_client import ApiProblem
from dashboard.dialogs import open_dialog
from dashboard.elements import instead, tag, text, working
from dashboard.links import failures_path
from dashboard.parts import badge, cell, command_line, notice, table, told_problem
from dashboard.shell import Page
from dashboard.words import counted, number

MEANS = {
    "valid": "would be sent, and is valid now",
    "invalid": "would fail again: left out",
    "newer_record": "a newer record of its key is stored: left out",
    "original_gone": "its bytes are gone: left out",
}

OPTIONS = {"reason": "reasons", "dataset": "datasets", "source": "sources", "key": "keys"}

SENDABLE = (None, "", "open", "all")
"""States of a list of which the open ones can be sent: of any other list, the job would send none that it shows."""

ENDED = ("done", "failed", "cancelled", "interrupted")


def selection(wanted: Mapping[str, str]) -> dict[str, Any]:
    """The filter of a page as the API's jobs take it. Pure."""
    chosen: dict[str, Any] = {OPTIONS[name]: [value] for name, value in wanted.items() if name in OPTIONS}
    return chosen | {name: wanted[name] for name in ("since", "until") if wanted.get(name)}


def retry_command(wanted: Mapping[str, str]) -> str:
    """The command line that does the same. Pure."""
    options = [f"--{name} {shlex.quote(value)}" for name, value in wanted.items() if name != "state"]
    return " ".join(["headrace failures retry", *options])


def bulk_dialog(shown: Page, wanted: Mapping[str, str]) -> Callable[[], Awaitable[None]]:
    """A function that opens the dialog for the dead letters of this filter."""

    async def open_it() -> None:
        sheet = open_dialog(shown, "Send dead letters again")
        with sheet.body:
            if not (chosen := selection(wanted)):
                notice(
                    "Choose which ones first",
                    "Give a reason, a dataset, a source or a key: nobody sends everything again by mistake.",
                    tone="warn",
                )
                return
            if wanted.get("state") == "held":
                notice(
                    "Held records go on under their own coordinates",
                    "Put the mapping, the deploy or the source right first, and then let them go on.",
                    command=retry_command(wanted).replace("retry", "release", 1),
                )
                return
            if wanted.get("state") not in SENDABLE:
                state = wanted["state"].replace("_", " ")
                notice("Only open ones are sent again", f"None of this list is: their state is {state}.", tone="warn")
                text("a", "The open ones", href=failures_path(**{**wanted, "state": "open"}))
                return
            named = ", ".join(f"{name} {value}" for name, value in wanted.items() if name != "state")
            text("p", f"Dead letters with {named}.", "break")
            told = tag("div", "stack")
        await _plan(shown, chosen, wanted, told, sheet.foot)

    return open_it


async def _plan(shown: Page, chosen: dict[str, Any], wanted: Mapping[str, str], told: Any, foot: Any) -> None:
    with told:
        text("p", "Looking what would come of it…", "soft", role="status")
    try:
        plan = await shown.api.act("POST", "/failures/retry", shown.who, chosen | {"dry_run": True})
    except ApiProblem as problem:
        with instead(told):
            told_problem(problem)
        return
    with instead(told):
        _plan_table(plan)
        text("p", "The same on the command line; --dry-run says what is said here:", "soft small")
        command_line(retry_command(wanted))
    with foot:
        if plan["sent"]:
            button = text("button", f"Send {counted(plan['sent'], 'record')} again", "button main", type="button")

            async def send() -> None:
                await _send(shown, chosen, told, button)

            button.on("click", send, [])


def _plan_table(plan: dict[str, Any]) -> None:
    text(
        "p",
        f"Of {number(plan['total'])}, {number(plan['sent'])} would be sent and {number(plan['ready'])} are valid now.",
    )
    with tag("div", "panel"), table("What would come of it", ("Reason", "Dataset", "Count#", "What would come of it")):
        for line in plan["lines"]:
            with tag("tr"):
                cell(line["reason"])
                cell(line["dataset"])
                cell(number(line["count"]), "n")
                cell(
                    MEANS.get(line["expected"], f"is {line['expected']}: left out"), "is-ok" if line["sent"] else "soft"
                )


async def _send(shown: Page, chosen: dict[str, Any], told: Any, button: Any) -> None:
    with working(button) as free:
        if not free:
            return
        try:
            job = await shown.api.act("POST", "/failures/retry", shown.who, chosen)
        except ApiProblem as problem:
            with told:
                told_problem(problem)
            return
        button.delete()
    with instead(told):
        await watch_job(shown, job["id"])


async def watch_job(shown: Page, job_id: int) -> None:
    """Show how a replay job stands, until it has ended and each of its records has an outcome, or the page is gone."""
    with tag("div", "stack", role="status") as place:
        pass
    while not place.is_deleted:
        try:
            job = await shown.api.get(f"/failures/jobs/{job_id}")
        except ApiProblem as problem:
            with instead(place):
                told_problem(problem)
            return
        with instead(place):
            with tag("div", "row"):
                badge(job["state"])
                sent = f"{number(job['sent'])} of {number(job['total'])} sent"
                text("span", f"Job {job_id}: {sent}, {number(job['skipped'])} left out")
            with tag("div", "row"):
                for state, count in job["outcomes"].items():
                    badge(f"{count:,} {state.replace('_', ' ')}", "ok" if state == "stored" else "")
        waiting = sum(job["outcomes"].get(state, 0) for state in ("queued", "replayed"))
        if job["state"] in ENDED and not waiting:
            return
        await asyncio.sleep(0.5)
