"""`/runs`: what the runs of the sources came to, what is unusual, and how sources change."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from starlette.requests import Request

from dashboard.api_client import ApiProblem
from dashboard.bands import band
from dashboard.charts import timeline
from dashboard.dialogs import open_dialog
from dashboard.elements import instead, tag, text, working
from dashboard.filters import choice, filters, words
from dashboard.links import failures_path
from dashboard.live import Live
from dashboard.outcomes import legend, outcome_bar
from dashboard.parts import badge, cell, command_line, empty, exports, figure, notice, panel, table, told_problem
from dashboard.shell import RESPONSE_SECONDS, Page, page
from dashboard.words import ABSENT, ago, counted, moment, number, parsed, seconds

PAGE_SIZE = 50

FILTERS = ("source", "status")


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/runs", response_timeout=RESPONSE_SECONDS)
    async def runs(request: Request) -> None:
        wanted = {name: request.query_params[name] for name in FILTERS if request.query_params.get(name)}
        number_of_page = request.query_params.get("page", "1")
        lead = "Each time a source was read: what came in, and what became of every record."
        with page(live, request, "/runs", "Runs", lead) as (shown, tools):
            with tools:
                exports(f"/export/runs?{urlencode(wanted)}")
                text("button", "Ingest all customers…", "button", type="button").on("click", lambda: _ingest(shown), [])
            await shown.show("/stats", _stats)
            with filters("/runs", wanted):
                words("source", "Source", wanted, "e.g. titanic", search=True)
                choice("status", "Status", ("", "running", "success", "failed"), wanted)
            query = urlencode(wanted | {"page": number_of_page, "page_size": str(PAGE_SIZE)})
            await shown.show(f"/runs?{query}", lambda answer: _runs(answer, wanted), tall=True)
            await shown.show("/schema-drift?limit=50", _drift, every=2.0)


def _stats(stats: Mapping[str, Any]) -> None:
    with tag("div", "grid"):
        figure("Runs", number(stats["run_count"]), f"{number(stats['running'])} under way now")
        figure("Records in, of successful runs", number(stats["total_records_processed"]),
               f"in {seconds(stats['total_duration_seconds'])} of running")  # fmt: skip
        failed = stats["outcomes"].get("failed", 0)
        figure("Rejected", number(failed), "in all successful runs", tone="bad" if failed else "",
               href=failures_path(state="all"))  # fmt: skip
        last = stats["last_failure"]
        figure("Last failure of a run", ago(last) if last else "none", stats["last_failure_reason"] or "",
               tone="warn" if last else "ok")  # fmt: skip
    if not stats["sources"]:
        return
    with panel("Sources") as head:
        with head:
            legend(stats["outcomes"])
        columns = (
            "Source",
            "Runs#",
            "Records#",
            "What became of them",
            "Last success",
            "Last failure",
            "Unusual in the latest run",
        )
        with table("Sources", columns):
            for name, source in stats["sources"].items():
                with tag("tr", data_id=name):
                    cell(name, href=f"/runs?{urlencode({'source': name})}", row=True)
                    cell(number(source["run_count"]), "n")
                    cell(number(source["total_records_processed"]), "n")
                    with tag("td"):
                        outcome_bar(source["outcomes"])
                    cell(ago(source["last_success"]), "nowrap", sub=moment(source["last_success"]))
                    cell(ago(source["last_failure"]), sub=source["last_failure_reason"] or "")
                    with tag("td", "words"):
                        unusual(source["anomalies"])


def unusual(anomalies: Sequence[Mapping[str, Any]] | None) -> None:
    """The anomalies of a run, or that there are none."""
    if anomalies is None:
        text("span", "not examined yet", "faint")
    elif not anomalies:
        text("span", "nothing", "faint")
    for one in anomalies or ():
        feature = one["feature"].replace("_", " ") + (f" of {one['field']}" if one.get("field") else "")
        text("div", f"{feature} {number(one['value'])}, usually {number(one['usual'])}", "is-warn")


def _runs(answer: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    rows = answer["data"]
    with panel("Runs, newest first") as head:
        if not rows:
            if wanted:
                empty("No run matches.", "Take a condition away.")
            else:
                empty("No source has been read yet.", "Read them all once:", "headrace publish --all --wait")
            return
        with head:
            text("span", f"{len(rows):,} of {number(answer['total'])}", "soft small")
        if len(rows) > 1:
            with tag(
                "div",
                "chart-wrap",
                role="img",
                aria_label="A point per run, by source and time; the table says the same",
            ):
                height = 60 + 30 * len({run["source"] for run in rows})
                ui.echart(timeline(rows)).style(f"height: {height}px")
        columns = (
            "Started",
            "Source",
            "Status",
            "Took#",
            "In#",
            "Expected#",
            "Stored#",
            "Unchanged#",
            "Superseded#",
            "Rejected#",
            "Unusual",
        )
        with table("Runs", columns):
            for run in rows:
                _row(run, [one for one in rows if one["started_at"] < run["started_at"]])
        _pager(answer, wanted)


def _row(run: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> None:
    outcomes = run["outcomes"] or {}
    path = f"/runs/{run['run_id']}"
    with tag("tr", data_id=run["run_id"]):
        cell(ago(run["started_at"]), "nowrap", href=path, sub=moment(run["started_at"]), row=True)
        cell(run["source"], "nowrap", sub=run["dataset"])
        with tag("td"):
            badge(run["status"])
            if run["failure_reason"]:
                text("span", run["failure_reason"], "sub break")
        cell(duration(run), "n")
        cell(number(run["published"]), "n", href=path)
        cell(expected(run, before), "n soft")
        cell(number(run["stored"]), "n", href=stored_path(run) if run["stored"] else None)
        for name in ("unchanged", "superseded"):
            count = outcomes.get(name)
            cell(number(count), "n zero" if not count else "n", href=path if count else None)
        cell(
            number(run["failed"]),
            "n is-bad" if run["failed"] else "n zero",
            href=rejected_path(run) if run["failed"] else None,
        )
        with tag("td"):
            unusual(run["anomalies"])


def duration(run: Mapping[str, Any]) -> str:
    """The time that it took; ABSENT while it goes on."""
    begun, ended = parsed(run["started_at"]), parsed(run["finished_at"])
    return seconds((ended - begun).total_seconds()) if begun and ended else ABSENT


def expected(run: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> str:
    """The number of records that is usual for its source, by the runs before that are on the page."""
    same = [
        one["published"]
        for one in before
        if (one["source"], one["dataset"], one["status"]) == (run["source"], run["dataset"], "success")
        and one["published"] is not None
    ]
    usual = band(same)
    return ABSENT if usual is None else f"{usual.low:,.0f} to {usual.high:,.0f}"


def rejected_path(run: Mapping[str, Any]) -> str:
    """The dead letters of a run: those of its source while it went on."""
    return failures_path(source=run["source"], state="all", since=run["started_at"], until=run["finished_at"])


def stored_path(run: Mapping[str, Any]) -> str:
    """The records of a run's dataset, of its source where the dataset knows that."""
    source = {"source": run["source"]} if run["dataset"] == "records" else {}
    return f"/data?{urlencode({'dataset': run['dataset'], **source})}"


def _pager(answer: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    here = answer["page"]
    if here == 1 and not answer["has_more"]:
        return
    with tag("div", "panel-head"):
        if here > 1:
            text("a", "Newer", "button", href=f"/runs?{urlencode({**wanted, 'page': here - 1})}")
        if answer["has_more"]:
            text("a", "Older", "button", href=f"/runs?{urlencode({**wanted, 'page': here + 1})}")


def _drift(answer: Mapping[str, Any]) -> None:
    with panel("How sources change") as head:
        if not answer["data"]:
            empty(
                "No source has gained, lost or retyped a field.", "The landing sink looks at every record that comes."
            )
            return
        with head:
            exports("/export/drift")
        with table(
            "Drift of sources",
            ("Source", "Field", "Change", "What it does", "Records#", "Since", "Last seen", "Example"),
        ):
            for one in answer["data"]:
                with tag("tr"):
                    cell(one["source"], "nowrap", sub=one["dataset"])
                    cell(one["field"], "mono break")
                    with tag("td", "nowrap mono"):
                        drift_diff(one)
                    with tag("td", "words"):
                        policy(one)
                    cell(number(one["records"]), "n")
                    cell(ago(one["since"]), "nowrap", sub=moment(one["since"]))
                    cell(
                        "ended" if one["ended_at"] else ago(one["last_seen"]),
                        "nowrap",
                        sub=moment(one["ended_at"] or one["last_seen"]),
                    )
                    with tag("td", "words mono"):
                        example = one["example"] or {}
                        text("span", (example.get("text") or ABSENT)[:300])


def drift_diff(one: Mapping[str, Any]) -> None:
    """The change as a diff: what was there, and what is."""
    if one["what"] != "gained":
        text("div", f"- {one['from_type'] or 'field'}", "diff-old")
    if one["what"] != "lost":
        text("div", f"+ {one['to_type'] or 'field'}", "diff-new")
    text("span", one["what"], "sub")


def policy(one: Mapping[str, Any]) -> None:
    """The pipeline's answer to it."""
    if one["breaking"]:
        badge("records fail", "bad")
        with tag("div", "small"):
            text("a", f"as {one['reason']}", href=failures_path(source=one["source"], reason=one["reason"]))
    else:
        badge("passes through", "ok")
        word = (
            "is not read"
            if one["what"] == "gained"
            else "reads as absent"
            if one["what"] == "lost"
            else "is read all the same"
        )
        text("div", f"the field {word}", "small soft")


def _ingest(shown: Page) -> None:
    sheet = open_dialog(shown, "Ingest all customers")
    with sheet.body:
        text(
            "p",
            "Reads every customer from the source customers_api and waits until each is stored or refused. What has "
            "not changed stays as it is; doing it twice does no harm.",
        )
        command_line("headrace run customers_api")
        told = tag("div", "stack")
    with sheet.foot:
        go_on = text("button", "Ingest", "button main", type="button")

    async def ingest() -> None:
        with working(go_on) as free:
            if not free:
                return
            with instead(told):
                text("p", "Reading…", "soft", role="status")
            try:
                answer = await shown.api.act("POST", "/api/ingest", shown.who)
            except ApiProblem as problem:
                with instead(told):
                    told_problem(problem)
                return
        with instead(told):
            notice(*ingested(answer), tone="ok")
            text("a", "The run", href=f"/runs/{answer['run_id']}")

    go_on.on("click", ingest, [])


def ingested(answer: Mapping[str, Any]) -> tuple[str, str]:
    """The result of an ingestion, and more of it. Pure."""
    count = answer["records_processed"]
    read = "" if count is None else f"{counted(count, 'record')} read"
    if answer["stored"] is None:
        return "The run goes on", read
    return read, f"{number(answer['stored'])} stored, {number(answer['failed'])} rejected"
