"""`/data/{dataset}/{key}`: one record as it is stored and served."""

from collections.abc import Mapping
from typing import Any

from nicegui import ui
from starlette.requests import Request

from dashboard.api_client import ApiProblem
from dashboard.elements import tag, text
from dashboard.links import api_command, api_record_path, dataset_path, failures_path, trace_command, trace_path
from dashboard.live import Live
from dashboard.parts import command_line, notice, panel, told_problem
from dashboard.shell import RESPONSE_SECONDS, page
from dashboard.words import ABSENT, ago, moment
from dashboard.words import shown as value_shown

TIMES = ("created_at", "updated_at")


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/data/{dataset}/{key:path}", response_timeout=RESPONSE_SECONDS)
    async def record(request: Request, dataset: str, key: str) -> None:
        crumbs = (("/data", "Data"), (dataset_path(dataset), dataset))
        with page(live, request, "/data", key, crumbs=crumbs) as (shown, tools):
            with tools:
                text("a", "Trace it", "button main", href=trace_path(dataset, key))
                text("a", "Its dead letters", "button", href=failures_path(dataset=dataset, key=key, state="all"))
            path = api_record_path(dataset, key)
            answer = await shown.soon(path)
            if answer and answer.problem and answer.problem.status == 404:
                _missing(answer.problem, dataset, key)
                return
            await shown.show(path, _record)
            command_line(api_command(live.api.url, path))


def _missing(problem: ApiProblem, dataset: str, key: str) -> None:
    if not dataset.isidentifier():
        told_problem(problem)
        return
    notice(
        "Nothing is stored under this key",
        f"{problem.detail}\nIt was never stored, was deleted, or was rejected. Its trace says which.",
        tone="warn",
        command=trace_command(dataset, key),
    )


def _record(row: Mapping[str, Any]) -> None:
    with panel("As it is served", body=True), tag("dl", "pairs"):
        for name, value in row.items():
            text("dt", name)
            if name in TIMES and value:
                text("dd", f"{moment(value)} UTC, {ago(value)}")
            else:
                text("dd", value_shown(value), "pre faint" if value is None else "pre")
    if not row.get("updated_at"):
        text(
            "p", f"It has not changed since it was first stored{'' if row.get('created_at') else ABSENT}.", "soft small"
        )
