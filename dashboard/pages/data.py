"""`/data`: search in all that is stored, or browse it dataset by dataset."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from starlette.requests import Request

from dashboard.elements import tag, text
from dashboard.filters import choice, filters, words
from dashboard.highlights import pieces
from dashboard.links import record_path
from dashboard.live import Live
from dashboard.parts import cell, empty, exports, notice, panel, table
from dashboard.shell import RESPONSE_SECONDS, Page, page
from dashboard.words import ago, moment, number
from dashboard.words import shown as value_shown

FILTERS = ("q", "dataset", "source")

ROWS = 25

KEPT_ASIDE = ("id", "created_at", "updated_at")

LONGEST = 240


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/data", response_timeout=RESPONSE_SECONDS)
    async def data(request: Request) -> None:
        wanted = {name: request.query_params[name] for name in FILTERS if request.query_params.get(name)}
        cursor, number_of_page = request.query_params.get("cursor", ""), request.query_params.get("page", "1")
        lead = "Every record that is stored. A search forgives typing errors; the last word may be a beginning."
        with page(live, request, "/data", "Data", lead) as (shown, tools):
            answer = await shown.ask("/datasets")
            datasets = [one["name"] for one in (answer.data or {}).get("data", ())]
            with filters("/data", wanted, "Search"):
                words("q", "Search", wanted, "a name, an address, a product…", search=True, long=True)
                choice("dataset", "Dataset", ("", *datasets), wanted, first="all")
            if query := wanted.get("q"):
                asked = {"q": query, **({"dataset": wanted["dataset"]} if "dataset" in wanted else {})}
                with tools:
                    exports(f"/export/search?{urlencode(asked)}")
                path = f"/search?{urlencode(asked | {'page': number_of_page, 'page_size': str(ROWS)})}"
                await shown.show(path, lambda found: _hits(found, wanted), every=2.0)
                return
            for described in (answer.data or {}).get("data", ()):
                if wanted.get("dataset") in (None, described["name"]):
                    alone = "dataset" in wanted
                    if alone:
                        with tools:
                            exports(f"/export/data-{described['name']}")
                    await _browse(shown, described, wanted if alone else {}, cursor if alone else "", alone=alone)


async def _browse(
    shown: Page, described: Mapping[str, Any], wanted: Mapping[str, str], cursor: str, *, alone: bool
) -> None:
    limit = ROWS if alone else 5
    if source := wanted.get("source"):
        path = f"/data?{urlencode({'source': source, 'page_size': str(limit)})}"
    else:
        path = f"{described['url']}?{urlencode({'limit': str(limit), **({'cursor': cursor} if cursor else {})})}"
    await shown.show(path, lambda answer: _rows(answer, described, wanted, alone=alone), every=2.0)


def _rows(answer: Mapping[str, Any], described: Mapping[str, Any], wanted: Mapping[str, str], *, alone: bool) -> None:
    name, rows = described["name"], answer["data"]
    with panel(name.capitalize()) as head:
        with head:
            text("span", f"{number(answer['total'])} in all", "soft small")
            if not alone and answer["total"] > len(rows):
                text("a", "Browse", "button", href=f"/data?{urlencode({'dataset': name})}")
        if not rows:
            empty(
                f"No {name} are stored.",
                "Push some, or read their source:",
                f"headrace push {name} records.jsonl --wait",
            )
            return
        columns = [column for column in rows[0] if column not in KEPT_ASIDE]
        with table(name.capitalize(), (*columns, "last change")):
            for row in rows:
                key = key_of(row, described["key"])
                with tag("tr", data_id=key):
                    for place, column in enumerate(columns):
                        value = value_shown(row[column])
                        cut = value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
                        link = record_path(name, key) if place == 0 or column == described["key"][-1] else None
                        cell(cut, "break", href=link, row=place == 0)
                    changed = row.get("updated_at") or row.get("created_at")
                    cell(ago(changed), "nowrap", sub=moment(changed))
        following = answer.get("next_cursor")
        if alone and (following or answer.get("page") is None):
            with tag("div", "panel-head"):
                if answer.get("page") is None and "cursor" in answer:
                    text("a", "From the beginning", "button", href=f"/data?{urlencode({'dataset': name})}")
                if following:
                    text("a", "Next", "button", href=f"/data?{urlencode({**wanted, 'cursor': following})}")


def key_of(row: Mapping[str, Any], key: Sequence[str]) -> str:
    """The record's key as text. Pure."""
    return ":".join(str(row[name]) for name in key)


def _hits(answer: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    if answer["degraded"]:
        notice(
            "Elasticsearch does not answer, so Postgres does",
            "Typing errors are not forgiven meanwhile.", tone="warn", command="headrace status",
        )  # fmt: skip
    with panel("Found") as head:
        with head:
            text("span", f"{number(answer['total'])}, by {answer['backend']}", "soft small")
        if not answer["data"]:
            empty("Nothing is found.", "Try fewer words, or all datasets.")
            return
        with table("Found", ("Record", "Dataset", "Where it matches")):
            for hit in answer["data"]:
                with tag("tr", data_id=f"{hit['dataset']} {hit['key']}"):
                    cell(hit["key"], "break", href=record_path(hit["dataset"], hit["key"]), row=True)
                    cell(hit["dataset"], "nowrap")
                    with tag("td", "words"):
                        for field, marked in hit["highlights"].items():
                            highlighted(field, marked)
        here = answer["page"]
        if here > 1 or answer["has_more"]:
            with tag("div", "panel-head"):
                if here > 1:
                    text("a", "Before", "button", href=f"/data?{urlencode({**wanted, 'page': here - 1})}")
                if answer["has_more"]:
                    text("a", "Next", "button", href=f"/data?{urlencode({**wanted, 'page': here + 1})}")


def highlighted(field: str, marked: str) -> None:
    """A field with its matches marked, as text."""
    with tag("div", "break"):
        text("span", f"{field} ", "faint small")
        for piece, is_match in pieces(marked):
            text("em" if is_match else "span", piece, "hit" if is_match else "")
