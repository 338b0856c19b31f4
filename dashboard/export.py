"""`/export/…`: whole lists as files, CSV or JSON, read page by page from the API while they are sent."""

import csv
import io
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from dashboard.api_client import Api, ApiProblem
from dashboard.payloads import as_json
from schemas.formulas import FORMULA, HARMLESS, LATER_CELL

PAGE = 100
"""Rows that are asked for at once."""

MOST_MATCHES = 10_000
"""Matches that the API shows of a search: a file of one has no more."""

LISTS = {
    "failure-items": "/failures/items",
    "runs": "/runs",
    "drift": "/schema-drift",
    "lag": "/lag",
    "records-of": "/data",
    "search": "/search",
    "topics": "/topics",
}
"""Lists that can be exported, with where they come from; datasets are `data-NAME`. `records-of` takes a source."""


def exports(api: Api) -> APIRouter:
    """The routes of the files."""
    router = APIRouter(prefix="/export")

    @router.get("/{name}.{kind}")
    async def export(request: Request, name: str, kind: Literal["csv", "json"]) -> Response:
        path = _path(name)
        if path is None:
            return PlainTextResponse(f"There is no list {name[:80]!r} to export.\n", 404)
        pages = rows(api, path, dict(request.query_params))
        try:
            first: list[dict[str, Any]] = await anext(pages, [])
        except ApiProblem as problem:
            return PlainTextResponse(f"{problem}\n", problem.status or 502)
        body = _csv(first, pages) if kind == "csv" else _json(first, pages)
        media = "text/csv; charset=utf-8" if kind == "csv" else "application/json"
        return StreamingResponse(
            body, media_type=media, headers={"Content-Disposition": f'attachment; filename="headrace-{name}.{kind}"'}
        )

    return router


def _path(name: str) -> str | None:
    if name in LISTS:
        return LISTS[name]
    dataset = name.removeprefix("data-")
    return f"/datasets/{dataset}" if dataset != name and dataset.isidentifier() else None


async def rows(api: Api, path: str, filters: Mapping[str, str]) -> AsyncIterator[list[dict[str, Any]]]:
    """The list's rows, some at a time, whichever way it is paged. Raises ApiProblem."""
    wanted: dict[str, Any] = dict(filters)
    if path in ("/runs", "/search", "/data"):
        wanted |= {"page": 1, "page_size": PAGE}
    elif path == "/schema-drift":
        wanted |= {"page": 1, "limit": PAGE}
    elif path.startswith(("/datasets/", "/failures/items")):
        wanted |= {"limit": PAGE}
    while True:
        answer = await api.get(path, **wanted)
        found = [row for row in answer.get("data", []) if isinstance(row, dict)]
        yield found
        if following := answer.get("next_cursor"):
            wanted["cursor"] = following
        elif following := answer.get("next_before"):
            wanted["before"] = following
        elif path == "/search" and wanted["page"] * PAGE >= MOST_MATCHES:
            return
        elif "page" in wanted and len(found) == PAGE:
            wanted["page"] += 1
        else:
            return


async def _json(first: list[dict[str, Any]], pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    separator = "[\n"
    async for row in _one_by_one(first, pages):
        yield separator + as_json(row)
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


async def _csv(first: list[dict[str, Any]], pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    columns = list(dict.fromkeys(name for row in first for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    async for row in _one_by_one(first, pages):
        writer.writerow([cell_text(row.get(name)) for name in columns])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


async def _one_by_one(
    first: list[dict[str, Any]], pages: AsyncIterator[list[dict[str, Any]]]
) -> AsyncIterator[dict[str, Any]]:
    for row in first:
        yield row
    async for page in pages:
        for row in page:
            yield row


def cell_text(value: Any) -> str:
    """A value in a CSV file: numbers with all digits, objects as JSON, text so that no spreadsheet runs it. Pure."""
    if value is None:
        return ""
    text = as_json(value) if isinstance(value, dict | list) else str(value)
    if not isinstance(value, int | float):
        text = re.sub(LATER_CELL, HARMLESS, text)
    return f"'{text}" if isinstance(value, str) and re.match(FORMULA, text) else text
