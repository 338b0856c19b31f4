"""`/data`: search in all that is stored, or browse it dataset by dataset."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from nicegui import ui
from starlette.requests import Request

from dashboard.elements import tag, text
from dashboard.export import MOST_MATCHES
from dashboard.filters import choice, filters, words
from dashboard.highlights import pieces
from dashboard.links import record_path
from dashboard.live import Live
from dashboard.parts import cell, empty, exports, notice, panel, table
from dashboard.shell import RESPONSE_SECONDS, page
from dashboard.words import ago, moment, number
from dashboard.words import shown as value_shown

FILTERS = ("q", "dataset", "source")

ROWS = 25

KEPT_ASIDE = ("id", "created_at", "updated_at")

LONGEST = 240

BY_SOURCE = "records"
"""The dataset whose records know the source that they came from."""


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/data", response_timeout=RESPONSE_SECONDS)
    async def data(request: Request) -> None:
        wanted = {name: request.query_params[name] for name in FILTERS if request.query_params.get(name)}
        cursor, number_of_page = request.query_params.get("cursor", ""), request.query_params.get("page", "1")
        lead = "Every record that is stored. A search forgives typing errors; the last word may be a beginning."
        with page(live, request, "/data", "Data", lead) as (shown, tools):
            answer = await shown.soon("/datasets")
            known = [one["name"] for one in ((answer and answer.data) or {}).get("data", ())]
            datasets = known or [name for name in (wanted.get("dataset"),) if name]
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
            if exported := exported_path(wanted):
                with tools:
                    exports(exported)
            place = Place(cursor, number_of_page)
            if known:
                for path, build in browsed(answer.data if answer else {}, wanted, place):
                    await shown.show(path, build, every=2.0)
                return

            def browse_later(answer: Mapping[str, Any]) -> None:
                for path, build in browsed(answer, wanted, place):
                    shown.show_later(path, build, every=2.0)

            await shown.show_once("/datasets", browse_later)


class Place(NamedTuple):
    """The part of a dataset that is looked at: after a cursor, or a page of it."""

    cursor: str
    page: str


def browsed(
    answer: Mapping[str, Any], wanted: Mapping[str, str], place: Place
) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """By dataset that is wanted: the question to the API, and what builds its table from the answer. Pure."""
    for described in answer.get("data", ()):
        if wanted.get("dataset") in (None, described["name"]):
            alone = "dataset" in wanted
            about = wanted if alone else {}
            path = browsed_path(described, about, place if alone else Place("", "1"), ROWS if alone else 5)
            yield path, partial(_rows, described=described, wanted=about, alone=alone)


def browsed_path(described: Mapping[str, Any], wanted: Mapping[str, str], place: Place, limit: int) -> str:
    """The question for a part of a dataset; only `records` know their source. Pure."""
    if described["name"] == BY_SOURCE and (source := wanted.get("source")):
        return f"/data?{urlencode({'source': source, 'page': place.page, 'page_size': str(limit)})}"
    after = {"cursor": place.cursor} if place.cursor else {}
    return f"{described['url']}?{urlencode({'limit': str(limit), **after})}"


def exported_path(wanted: Mapping[str, str]) -> str | None:
    """The file of all that a dataset's page leads through; None for a page of several datasets. Pure."""
    dataset = wanted.get("dataset")
    if dataset == BY_SOURCE and (source := wanted.get("source")):
        return f"/export/records-of?{urlencode({'source': source})}"
    return f"/export/data-{quote(dataset, safe='')}" if dataset else None


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
        if alone and "has_more" in answer:
            _pages(answer, wanted)
        elif alone and (following or answer.get("page") is None):
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
            if answer["total"] > MOST_MATCHES:
                text("span", f"A file has the first {number(MOST_MATCHES)}.", "soft small")
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
        _pages(answer, wanted)


def _pages(answer: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
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
