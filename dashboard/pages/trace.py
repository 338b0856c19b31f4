"""`/trace/{dataset}/{key}`: a key's every event, from its source to the API, and how each store has it now."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from nicegui import ui
from starlette.requests import Request
from starlette.responses import RedirectResponse

from dashboard.elements import tag, text
from dashboard.filters import choice, filters, words
from dashboard.links import dataset_path, failures_path, record_path, trace_command, trace_path
from dashboard.live import Live
from dashboard.parts import Tone, badge, cell, command_line, empty, notice, panel, table
from dashboard.shell import RESPONSE_SECONDS, Page, page
from dashboard.words import ABSENT, ago, moment, number

OUTCOMES: dict[str, Tone] = {
    **dict.fromkeys(("published", "landed", "clean", "stored", "changed", "no change", "superseded"), "ok"),
    **dict.fromkeys(("failed", "unreadable"), "bad"),
    **dict.fromkeys(("held", "on its way", "pending", "deleted", "tombstone"), "warn"),
}

STATES: dict[str, Tone] = {"has it": "ok", "older": "warn", "newer": "warn", "away": "bad", "deleted": ""}

NAMES = {"raw": "raw topic", "postgres": "Postgres sink", "failure": "dead letter", "changed": "topic of changes"}


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/trace", response_timeout=RESPONSE_SECONDS)
    async def ask(request: Request) -> RedirectResponse | None:
        dataset, key = request.query_params.get("dataset", ""), request.query_params.get("key", "")
        if dataset and key:
            return RedirectResponse(trace_path(dataset, key))
        lead = "Follow one record: when it came, what became of it at each stage, and who has it now."
        with page(live, request, "/trace", "Trace", lead) as (shown, _):
            await _form(shown, {})
            with panel("Where to begin"):
                empty(
                    "Name a dataset and a key.",
                    "Every record, dead letter and message of this dashboard leads here as well.",
                    "headrace trace CUST001",
                )
        return None

    @ui.page("/trace/{dataset}/{key:path}", response_timeout=RESPONSE_SECONDS)
    async def trace(request: Request, dataset: str, key: str) -> None:
        crumbs = (("/trace", "Trace"), (dataset_path(dataset), dataset))
        with page(live, request, "/trace", key, crumbs=crumbs) as (shown, tools):
            with tools:
                text("a", "The record", "button", href=record_path(dataset, key))
                text("a", "Its dead letters", "button", href=failures_path(dataset=dataset, key=key, state="all"))
            await _form(shown, {"dataset": dataset, "key": key})
            await shown.show(trace_path(dataset, key), _trace, every=10.0, tall=True)
            command_line(trace_command(dataset, key))


async def _form(shown: Page, wanted: Mapping[str, str]) -> None:
    answer = await shown.soon("/datasets")
    datasets = [one["name"] for one in ((answer and answer.data) or {}).get("data", ())]
    with filters("/trace", wanted, "Trace"):
        choice("dataset", "Dataset", datasets or ["customers"], wanted)
        words("key", "Key", wanted, "e.g. CUST001", search=True, long=True)


def _trace(answer: Mapping[str, Any]) -> None:
    failed = any(one["outcome"] in ("failed", "held", "pending") for one in answer["events"][-3:])
    tone = "warn" if not answer["known"] or failed else "ok"
    with tag("section", f"panel diagnosis {tone}", aria_label="How it stands"), tag("div", "grow"):
        text("p", answer["summary"], "sentence")
        place = "" if answer["partition"] is None else f"Its records lie in partition {answer['partition']}."
        text("p", place, "more")
    for note in answer["notes"]:
        notice(note, tone="warn")
    with tag("div", "grid"):
        for store in answer["stores"]:
            _store(store)
    with panel("What happened", body=True):
        if not answer["events"]:
            empty("Nothing is known of this key.", "It has never come, or retention has taken what was left of it.")
            return
        with tag("ol", "steps"):
            for event in answer["events"]:
                _event(event)
    with (
        panel("Where it was looked for"),
        table("Topics", ("Topic", "Partition#", "Offsets looked at", "Kept from#", "How far")),
    ):
        for one in answer["searched"]:
            with tag("tr"):
                cell(one["topic"])
                cell(one["partition"], "n")
                cell(f"{one['first']:,} to {one['end']:,}", "nowrap")
                cell(number(one["kept_from"]), "n")
                cell(one["stopped"] or "all of it", "words")


def _store(store: Mapping[str, Any]) -> None:
    with tag("div", "panel figure"):
        with tag("div", "row spread"):
            text("span", store["store"].capitalize() if store["store"] != "api" else "API", "label")
            badge(store["state"], STATES.get(store["state"], ""))
        text("span", ABSENT if store["version"] is None else f"version {store['version']:,}", "value")
        text("span", store["detail"] or "", "note")


def _event(event: Mapping[str, Any]) -> None:
    with tag("li", OUTCOMES.get(event["outcome"], "")):
        with tag("div", "row"):
            text("strong", NAMES.get(event["stage"], event["stage"]))
            badge(event["outcome"], OUTCOMES.get(event["outcome"], ""))
            if event["version"] is not None:
                text("span", f"version {event['version']:,}", "soft")
            if event["failure"]:
                text("a", f"dead letter {event['failure']}", href=f"/failures/{event['failure']}")
        if event["detail"]:
            text("div", event["detail"], "break")
        with tag("div", "soft small break"):
            when = f"{moment(event['at'])} UTC, {ago(event['at'])}" if event["at"] else "at a time that nobody kept"
            text("span", when)
            if event["topic"]:
                text("span", f" · {event['topic']}/{event['partition']} at {event['offset']:,}", "mono")
            if event["source"]:
                text("span", f" · from {event['source']}")
            if event["run"]:
                text("span", " · ")
                text("a", f"run {event['run'][:8]}", href=f"/runs/{quote(event['run'], safe='')}")
