"""`/runs/{run_id}`: one run of a source, with a way to its records."""

import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from nicegui import ui
from starlette.requests import Request

from dashboard.elements import tag, text
from dashboard.links import api_command
from dashboard.live import Live
from dashboard.outcomes import legend, outcome_bar
from dashboard.pages.runs import duration, rejected_path, stored_path
from dashboard.parts import badge, cell, command_line, empty, figure, notice, pairs, panel, table
from dashboard.shell import RESPONSE_SECONDS, page
from dashboard.words import ABSENT, ago, moment, number


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/runs/{run_id}", response_timeout=RESPONSE_SECONDS)
    async def run(request: Request, run_id: str) -> None:
        with page(live, request, "/runs", f"Run {run_id[:8]}", crumbs=(("/runs", "Runs"),)) as (shown, _):
            path = f"/runs/{quote(run_id, safe='')}"
            await shown.show(path, _run)
            command_line(api_command(live.api.url, path))


def _run(one: Mapping[str, Any]) -> None:
    outcomes = one["outcomes"] or {}
    with tag("div", "row"):
        badge(one["status"])
        text("span", f"{one['source']} into {one['dataset']}, begun {ago(one['started_at'])}", "soft")
    if one["failure_reason"]:
        again = f"headrace run {shlex.quote(one['source'])}"
        notice("The run failed", one["failure_reason"], tone="bad", command=again)
    with tag("div", "grid"):
        figure("In", number(one["published"]), "records confirmed by the broker")
        figure("Stored", number(one["stored"]), "the newest of each key is a row",
               href=stored_path(one) if one["stored"] else None)  # fmt: skip
        figure("Unchanged", number(outcomes.get("unchanged")), "equal to the row that was there")
        figure("Superseded", number(outcomes.get("superseded")), "a newer record of the same key was stored")
        figure("Rejected", number(one["failed"]), "dead letters", tone="bad" if one["failed"] else "",
               href=rejected_path(one) if one["failed"] else None)  # fmt: skip
    with panel("What became of its records", body=True), tag("div", "stack"):
        if outcomes:
            outcome_bar(outcomes)
            legend(outcomes)
        else:
            text("p", "Not known yet: the run goes on, or it ended before its records had an outcome.", "soft")
    with panel("Unlike the runs before") as _head:
        _anomalies(one["anomalies"])
    with panel("The run", body=True):
        pairs((
            ("Id", one["run_id"]),
            ("Asked for by", one["trigger"]),
            ("Began", f"{moment(one['started_at'])} UTC"),
            ("Ended", f"{moment(one['finished_at'])} UTC" if one["finished_at"] else ABSENT),
            ("Took", duration(one)),
            ("Encoding", one["encoding"] or ABSENT),
        ))  # fmt: skip


def _anomalies(anomalies: list[Mapping[str, Any]] | None) -> None:
    if not anomalies:
        empty("Nothing is unusual." if anomalies is not None else "It has not been examined yet.",
              "From the sixth run of a source on, each is compared with up to twenty before.")  # fmt: skip
        return
    with table("Anomalies", ("Feature", "Field", "Value#", "Usual#", "Score#", "Compared with#")):
        for one in anomalies:
            with tag("tr"):
                cell(one["feature"].replace("_", " "))
                cell(one.get("field") or ABSENT, "mono")
                cell(number(one["value"]), "n is-warn")
                cell(number(one["usual"]), "n")
                cell(number(one["score"]), "n")
                cell(number(one["runs"]), "n")
