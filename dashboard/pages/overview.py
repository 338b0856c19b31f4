"""`/`: is it healthy, how far behind, what failed: in a sentence, a drawing, and a table of every edge of it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from nicegui import ui
from starlette.requests import Request

from dashboard.elements import tag, text
from dashboard.flow import STATES, VERDICTS
from dashboard.flow_drawing import draw
from dashboard.live import Answer, Live
from dashboard.pages.lag import NEVER, age, drain, waiting
from dashboard.parts import Tone, badge, cell, command_line, empty, figure, panel, table, told_problem
from dashboard.shell import RESPONSE_SECONDS, page
from dashboard.words import ABSENT, ago, number, rate, seconds

OVERVIEW, LAG = "/overview", "/lag"

AUDITS: dict[str, Tone] = {"complete": "ok", "gaps": "warn", "unknown": ""}


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/", response_timeout=RESPONSE_SECONDS)
    async def overview(request: Request) -> None:
        with page(live, request, "/", "Overview") as (shown, _):
            await shown.show_all({OVERVIEW: 1.0, LAG: 1.0}, _overview, tall=True)


def _overview(answers: Mapping[str, Answer]) -> None:
    if problem := answers[OVERVIEW].problem:
        told_problem(problem)
        return
    told = answers[OVERVIEW].data
    with tag("section", f"panel diagnosis {STATES.get(told['state'], '')}", aria_label="Diagnosis"), tag("div", "grow"):
        text("p", told["diagnosis"], "sentence")
        for trouble in told["troubles"]:
            if trouble != told["diagnosis"]:
                text("p", trouble, "more")
    _figures(told, answers[LAG])
    with panel("The way of the records") as head:
        with head:
            for node in told["nodes"]:
                if node["kind"] == "store":
                    badge(node["name"].capitalize(), STATES.get(node["state"], ""))
        if not told["edges"]:
            empty("Nothing flows yet.", "Read the sources once, or push a record:", "headrace publish --all --wait")
        else:
            with tag("div", "flow", tabindex="0", role="region", aria_label="Drawing of the flow"):
                draw(told, f"{told['diagnosis']} The table below says the same of every edge.")
                text("p", "Behind a topic: records per second, and how many wait for its slowest reader.", "how")
            _edges(told)


def _figures(told: Mapping[str, Any], asked: Answer) -> None:
    with tag("div", "grid"):
        if lag := asked.data:
            behind = f"the oldest for {age(lag)}, {_done(lag)}" if lag["waiting"] else "nothing is behind"
            tone = VERDICTS.get(lag["verdict"], "") if lag["waiting"] else ""
            figure("Records that wait", waiting(lag), behind, tone=tone, href="/lag")
            figure("Moving now", rate(lag["rate_out"]), f"{rate(lag['rate_in'])} come in, over all topics", href="/lag")
        latency = told["latency"] or {"median": None, "slowest": None, "records": 0}
        note = f"median to Postgres; slowest {seconds(latency['slowest'])}" if latency["records"] else "no new rows"
        figure("End to end", seconds(latency["median"]), note)
        if letters := told["dead_letters"]:
            oldest = f"the oldest {ago(letters['oldest'])}" if letters["oldest"] else "nobody has to act"
            held = f"; {number(letters['held'])} held" if letters["held"] else ""
            tone = "bad" if letters["open"] or letters["held"] else "ok"
            figure("Dead letters", number(letters["open"]), f"{oldest}{held}", tone=tone, href="/failures")
        audit = told["audit"]
        note = f"{number(audit['covered'])} covered, {number(audit['in_flight'])} in flight"
        figure("Audit", audit["verdict"], note, tone=AUDITS.get(audit["verdict"], "ok"))


def _done(lag: Mapping[str, Any]) -> str:
    left = drain(lag)
    return "rates are not known yet" if left == ABSENT else left if left == NEVER else f"done in {left}"


def _edges(told: Mapping[str, Any]) -> None:
    nodes = {node["id"]: node for node in told["nodes"]}
    columns = ("From", "To", "State", "Rate#", "Waiting#", "Oldest#", "Why")
    with table("Every edge of the flow", columns):
        for edge in told["edges"]:
            start, end = nodes[edge["source"]], nodes[edge["target"]]
            with tag("tr"):
                _node_cell(start)
                _node_cell(end)
                with tag("td"):
                    badge(edge["verdict"] or edge["state"], STATES.get(edge["state"], ""))
                cell(rate(edge["rate"]), "n" if edge["rate"] else "n zero")
                known = edge["waiting"] is not None
                about = {"waiting": edge["waiting"], "exact": edge["exact"] is not False}
                cell(waiting(about) if known else ABSENT, "n" if edge["waiting"] else "n zero")
                cell(seconds(edge["seconds"]) if edge["waiting"] else ABSENT, "n" if edge["waiting"] else "n zero")
                cell(edge["reason"] or start["detail"] or ABSENT, "words")
    with tag("div", "panel-body"):
        command_line("headrace status")


def _node_cell(node: Mapping[str, Any]) -> None:
    name = quote(node["name"], safe="")
    places = {
        "agent": f"/lag/{name}",
        "sink": f"/lag/{name}",
        "topic": f"/topics/{name}",
        "source": f"/runs?source={name}",
    }
    cell(node["name"], "nowrap", href=places.get(node["kind"]), sub=node["kind"], row=node["kind"] in ("agent", "sink"))
