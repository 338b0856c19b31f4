"""`/`: is it healthy, how far behind, what failed: in a sentence, a drawing, and a table of every edge of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from nicegui import ui
from starlette.requests import Request

from dashboard.elements import tag, text
from dashboard.flow import STORE_TONES, VERDICTS, Flow, flow_of
from dashboard.flow_drawing import draw
from dashboard.live import Answer, Live
from dashboard.pages.lag import age, drain, waiting
from dashboard.parts import Tone, badge, cell, command_line, empty, figure, panel, table, told_problem
from dashboard.shell import page
from dashboard.words import ABSENT, ago, counted, listed, number, rate, seconds

LAG, HEALTH, RUNS, FAILURES, AUDIT = "/lag", "/api/health", "/runs?page_size=100", "/failures", "/audit"

QUESTIONS = {LAG: 1.0, HEALTH: 1.0, FAILURES: 1.0, RUNS: 2.0}

AUDIT_SECONDS = 5.0
"""An audit asks each partition: not every second."""


class Diagnosis(NamedTuple):
    """One sentence, what else is to be said, and its colour."""

    sentence: str
    more: str
    tone: Tone


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/")
    async def overview(request: Request) -> None:
        with page(live, request, "/", "Overview") as (shown, _):
            await shown.show_all({**QUESTIONS, AUDIT: AUDIT_SECONDS}, _overview, tall=True)


def _overview(answers: Mapping[str, Answer]) -> None:
    if (problem := answers[LAG].problem) and problem.silent:
        told_problem(problem)
        return
    lag, health = answers[LAG].data, answers[HEALTH].data
    groups = (answers[FAILURES].data or {}).get("data", [])
    audit = answers[AUDIT].data
    runs = (answers[RUNS].data or {}).get("data", [])
    said = diagnose(lag, health, audit, groups)
    with tag("section", f"panel diagnosis {said.tone}", aria_label="Diagnosis"), tag("div", "grow"):
        text("p", said.sentence, "sentence")
        if said.more:
            text("p", said.more, "more")
    for path in (LAG, FAILURES, AUDIT, RUNS):
        if problem := answers[path].problem:
            told_problem(problem)
    _figures(lag, groups, audit, runs)
    flow = flow_of(lag, runs, health)
    with panel("The way of the records") as head:
        with head:
            _stores(health)
        if not flow.edges:
            empty("Nothing flows yet.", "Read the sources once, or push a record:", "headrace publish --all --wait")
        else:
            with tag("div", "flow", tabindex="0", role="region", aria_label="Drawing of the flow"):
                draw(flow, f"{said.sentence} The table below says the same of every edge.")
            _edges(flow)


def diagnose(
    lag: Mapping[str, Any] | None,
    health: Mapping[str, Any] | None,
    audit: Mapping[str, Any] | None,
    failures: Sequence[Mapping[str, Any]],
) -> Diagnosis:
    """The worst thing first: a store that is down, a group that stands, records that are lost, a group that is slow."""
    components = (health or {}).get("components", {})
    if down := [name for name, one in components.items() if one["status"] == "down"]:
        reasons = "; ".join(str(components[name].get("reason") or "no reason is given") for name in down)
        does = "does not" if len(down) == 1 else "do not"
        return Diagnosis(f"{listed(name.capitalize() for name in down)} {does} answer.", reasons, "bad")
    if lag and VERDICTS.get(lag["verdict"]) == "bad":
        behind = f"{waiting(lag)} behind, the oldest for {age(lag)}."
        return Diagnosis(f"{lag['reason']}.", f"{behind}{_done_in(lag)}", "bad")
    if audit and not audit["clean"] and (lost := sum(_lost(one) for one in audit["partitions"])):
        return Diagnosis(f"{counted(lost, 'record')} did not reach an outcome.", "headrace audit says which.", "bad")
    held = (health or {}).get("held", 0)
    if held:
        return Diagnosis(
            f"{counted(held, 'record')} held: nearly all of a source failed.",
            health["reason"] if health else "",
            "warn",
        )
    if lag and lag["verdict"] not in ("OK", None):
        return Diagnosis(f"{lag['reason']}.", f"{waiting(lag)} wait.{_done_in(lag)}", "warn")
    if (health or {}).get("status") not in ("healthy", None):
        return Diagnosis("It works, with something missing.", str((health or {}).get("reason") or ""), "warn")
    if lag and lag["waiting"]:
        return Diagnosis(f"All is well; {counted(lag['waiting'], 'record')} on the way.", _done_in(lag).strip(), "ok")
    failed = sum(group["count"] for group in failures)
    more = f"{counted(failed, 'dead letter')} waiting for somebody to decide." if failed else ""
    return Diagnosis("All is well: nothing waits, and every store answers.", more, "ok")


def _done_in(lag: Mapping[str, Any]) -> str:
    return f" Catching up would take {seconds(lag['drain_seconds'])}." if lag.get("drain_seconds") else ""


def _lost(partition: Mapping[str, Any]) -> int:
    return sum(hole[1] - hole[0] if isinstance(hole, list) else 1 for hole in partition["holes"])


def _figures(
    lag: Mapping[str, Any] | None,
    groups: Sequence[Mapping[str, Any]],
    audit: Mapping[str, Any] | None,
    runs: Sequence[Mapping[str, Any]],
) -> None:
    with tag("div", "grid"):
        if lag:
            oldest = f"the oldest for {age(lag)}; done in {drain(lag)}" if lag["waiting"] else "nothing is behind"
            tone = VERDICTS.get(lag["verdict"], "") if lag["waiting"] else ""
            figure("Records that wait", waiting(lag), oldest, tone=tone, href="/lag")
            figure("Moving now", rate(lag["rate_out"]), f"{rate(lag['rate_in'])} come in, over all topics", href="/lag")
        count = sum(group["count"] for group in groups)
        first = min((group["first_seen"] for group in groups), default=None)
        note = f"the oldest {ago(first)}" if first else "nobody has to act"
        figure("Dead letters", number(count), note, tone="bad" if count else "ok", href="/failures")
        if audit:
            _audit(audit)
        if runs:
            last = runs[0]
            tone = "bad" if last["status"] == "failed" else ""
            figure(
                "Latest run", ago(last["started_at"]), f"{last['source']}: {last['status']}", tone=tone, href="/runs"
            )


def _audit(audit: Mapping[str, Any]) -> None:
    covered = sum(one["covered"] for one in audit["partitions"])
    flying = sum(one["in_flight"] for one in audit["partitions"])
    if audit["clean"]:
        figure("Audit", "clean", f"{number(covered)} accounted for, {number(flying)} in flight", tone="ok")
    else:
        figure("Audit", "not clean", f"{number(covered)} accounted for; headrace audit says what is not", tone="bad")


def _stores(health: Mapping[str, Any] | None) -> None:
    for name, one in (health or {}).get("components", {}).items():
        badge(f"{name.capitalize()} {one['status']}", STORE_TONES.get(one["status"], "warn"))


def _edges(flow: Flow) -> None:
    columns = ("From", "To", "State", "Rate#", "Waiting#", "Oldest#", "Why")
    with table("Every edge of the flow", columns):
        for edge in flow.edges:
            start, end = flow.nodes[edge.start], flow.nodes[edge.end]
            with tag("tr"):
                cell(_named(start.name, start.kind), "nowrap")
                href = f"/lag/{quote(edge.group, safe='')}" if edge.group else None
                cell(_named(end.name, end.kind), "nowrap", href=href, row=bool(href))
                with tag("td"):
                    badge(edge.state, edge.tone)
                cell(rate(edge.rate), "n" if edge.rate else "n zero")
                about = {"waiting": edge.waiting, "exact": edge.exact}
                cell(waiting(about) if edge.waiting is not None else ABSENT, "n" if edge.waiting else "n zero")
                cell(seconds(edge.seconds) if edge.waiting else ABSENT, "n" if edge.waiting else "n zero")
                cell(edge.reason or ABSENT, "words")
    with tag("div", "panel-body"):
        command_line("headrace status")


def _named(name: str, kind: str) -> str:
    return f"{name}{kind}" if kind.startswith(".") else name if kind.startswith("topic") else f"{name} ({kind})"
