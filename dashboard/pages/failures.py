"""`/failures`: rejected records by reason, the single ones, and what to do with many at once."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from starlette.requests import Request

from dashboard.api_client import ApiProblem
from dashboard.bulk import bulk_dialog
from dashboard.elements import tag, text
from dashboard.filters import choice, filters, words
from dashboard.live import Live
from dashboard.parts import badge, cell, empty, exports, panel, table
from dashboard.shell import RESPONSE_SECONDS, Page, page
from dashboard.words import ago, counted, moment, number

STATES = (
    "open", "queued", "replayed", "parked", "held", "stored", "superseded", "failed_again", "discarded", "released",
    "resolved", "all",
)  # fmt: skip

FILTERS = ("reason", "dataset", "source", "key", "state", "since", "until")

SAMPLES = 12
"""Groups of which a sample is shown: the most frequent ones."""

ITEMS = 50


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/failures", response_timeout=RESPONSE_SECONDS)
    async def failures(request: Request) -> None:
        wanted = {name: request.query_params[name] for name in FILTERS if request.query_params.get(name)}
        before = request.query_params.get("before", "")
        lead = "Records that were rejected, with the reason and the bytes that came. Edit one, or send many again."
        with page(live, request, "/failures", "Dead letters", lead) as (shown, tools):
            with tools:
                exports(f"/export/failure-items?{urlencode(wanted)}")
            _filter_form(wanted)
            samples = Samples(shown)
            path = f"/failures?{urlencode(wanted)}"
            samples.draw = await shown.show(path, lambda answer: _groups(answer["data"], wanted, samples))
            samples.draw()
            place = {"limit": str(ITEMS), **({"before": before} if before else {})}
            await shown.show(
                f"/failures/items?{urlencode(wanted | place)}", lambda answer: _items(shown, answer, wanted, before)
            )


def _filter_form(wanted: Mapping[str, str]) -> None:
    with filters("/failures", wanted):
        words("reason", "Reason", wanted, "e.g. required", search=True)
        words("dataset", "Dataset", wanted)
        words("source", "Source", wanted)
        words("key", "Key", wanted)
        choice("state", "State", ("", *STATES), wanted, first="not settled")


class Samples:
    """The messages of the groups' examples, asked for when they are first seen."""

    def __init__(self, shown: Page) -> None:
        self._shown = shown
        self._messages: dict[int, str] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._wanted: set[int] = set()
        self.draw: Callable[[], None] = lambda: None

    def of(self, example: int) -> str:
        """The message, or the failure's number until it is known."""
        if example not in self._messages and example not in self._wanted:
            self._wanted.add(example)
            task = asyncio.create_task(self._ask(example))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return self._messages.get(example, f"dead letter {example}")

    async def _ask(self, example: int) -> None:
        try:
            self._messages[example] = (await self._shown.api.get(f"/failures/{example}"))["message"]
        except ApiProblem:
            self._wanted.discard(example)
            return
        self.draw()


def _groups(groups: list[dict[str, Any]], wanted: Mapping[str, str], samples: Samples) -> None:
    total = sum(group["count"] for group in groups)
    if not groups:
        with panel("By reason"):
            if wanted:
                empty("No dead letter matches.", "Take a condition away, or show every state.")
            else:
                empty(
                    "No dead letters.",
                    "Every record that came was stored. To see how one looks, push a wrong one:",
                    """echo '{"customer_id": "BOB", "email": "bob at example"}' | headrace push customers -""",
                )
        return
    with panel("By reason") as head:
        with head:
            text("span", f"{number(total)} in {counted(len(groups), 'group')}", "soft small")
        with table("Dead letters by reason", ("Reason", "Dataset", "Stage", "Count#", "First", "Last", "A sample")):
            for place, group in enumerate(groups):
                query = urlencode({**wanted, "reason": group["reason"], "dataset": group["dataset"]})
                with tag("tr", data_id=f"{group['reason']} {group['dataset']} {group['stage']}"):
                    cell(group["reason"], "nowrap", href=f"/failures?{query}", row=True)
                    cell(group["dataset"])
                    cell(group["stage"])
                    cell(number(group["count"]), "n")
                    cell(ago(group["first_seen"]), "nowrap", sub=moment(group["first_seen"]))
                    cell(ago(group["last_seen"]), "nowrap", sub=moment(group["last_seen"]))
                    with tag("td", "words"):
                        example = group["example_id"]
                        sample = samples.of(example) if place < SAMPLES else f"dead letter {example}"
                        text("a", sample, href=f"/failures/{example}")


def _items(shown: Page, answer: dict[str, Any], wanted: Mapping[str, str], before: str) -> None:
    rows = answer["data"]
    if not rows:
        return
    with panel("Single ones, newest first") as head:
        with head:
            text("span", f"{len(rows):,} of {number(answer['total'])}", "soft small")
            dialog = bulk_dialog(shown, wanted)
            button = text("button", "Send many again…", "button", type="button")
            button.on("click", dialog, [])
        with table(
            "Dead letters", ("Id#", "Key", "Dataset", "Source", "Reason", "Message", "State", "When", "Raw record")
        ):
            for one in rows:
                with tag("tr", data_id=one["id"]):
                    cell(one["id"], "n", href=f"/failures/{one['id']}", row=True)
                    cell(one["key"] or "no key", "break")
                    cell(one["dataset"])
                    cell(one["source_name"] or "–")
                    cell(one["reason"], "nowrap")
                    cell(one["message"], "words")
                    with tag("td"):
                        badge(one["state"])
                    cell(ago(one["failed_at"]), "nowrap", sub=moment(one["failed_at"]))
                    cell(f"{one['topic']}/{one['partition']}", "nowrap", sub=f"offset {one['offset']:,}")
        if before or answer["next_before"]:
            with tag("div", "panel-head"):
                if before:
                    text("a", "Newest", "button", href=f"/failures?{urlencode(wanted)}")
                if answer["next_before"]:
                    query = urlencode({**wanted, "before": answer["next_before"]})
                    text("a", "Older", "button", href=f"/failures?{query}")
