"""`/lag`: how far every consumer group is behind, in records and seconds, how well it goes, and since when."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from nicegui import ui
from starlette.requests import Request

from dashboard.charts import lines
from dashboard.elements import tag, text
from dashboard.flow import VERDICTS
from dashboard.links import lag_command
from dashboard.live import Live
from dashboard.parts import badge, cell, command_line, empty, exports, figure, notice, panel, table
from dashboard.shell import RESPONSE_SECONDS, page
from dashboard.words import ABSENT, counted, number, rate, seconds

SPANS = (("1", "1 hour"), ("6", "6 hours"), ("24", "24 hours"))

NEVER = "not catching up"

AGES = {"record": "by its timestamp", "interpolated": "estimated", "none": "its age is not known"}
"""In words, by what the age of the oldest record is known."""


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/lag", response_timeout=RESPONSE_SECONDS)
    async def lag(request: Request) -> None:
        lead = (
            "By committed offsets, as the broker has them: how many records wait, how old the oldest is, and when it "
            "will be done."
        )
        with page(live, request, "/lag", "Lag", lead) as (shown, tools):
            with tools:
                exports("/export/lag")
            await shown.show("/lag", _system, tall=True)

    @ui.page("/lag/{group}", response_timeout=RESPONSE_SECONDS)
    async def group(request: Request, group: str) -> None:
        hours = request.query_params.get("hours", "1")
        with page(live, request, "/lag", group, crumbs=(("/lag", "Lag"),)) as (shown, _):
            path = f"/lag/{quote(group, safe='')}"
            await shown.show(path, _group)
            with panel("How it was") as head:
                with head:
                    for value, words in SPANS:
                        here = "true" if value == hours else None
                        text(
                            "a", words, "button quiet", href=f"{path}?{urlencode({'hours': value})}", aria_current=here
                        )
                await shown.show(f"{path}/history?{urlencode({'hours': hours})}", _history, every=20.0, tall=True)
            command_line(lag_command(group))


def verdict_badge(verdict: str | None) -> None:
    """A verdict with its colour."""
    badge(verdict or "unknown", VERDICTS.get(verdict or "", ""))


def waiting(figures: Mapping[str, Any]) -> str:
    """The records that wait; `up to` where markers and the like may be among the offsets."""
    count = figures.get("waiting", figures.get("lag"))
    return number(count) if figures.get("exact", True) or not count else f"up to {number(count)}"


def age(figures: Mapping[str, Any]) -> str:
    """The age of the oldest record that waits; `about` where it is interpolated."""
    shown = seconds(figures.get("seconds"))
    return f"about {shown}" if figures.get("seconds_by") == "interpolated" else shown


def drain(figures: Mapping[str, Any]) -> str:
    """The time until nothing waits; NEVER where it does not get less, ABSENT where rates are not known yet."""
    if not figures.get("waiting"):
        return ABSENT
    left = figures.get("drain_seconds")
    known = figures.get("rate_in") is not None and figures.get("rate_out") is not None
    return NEVER if left is None and known else seconds(left)


def _system(answer: Mapping[str, Any]) -> None:
    if "overview" not in answer:
        notice(
            "This API is older than this dashboard",
            "Restart both.",
            tone="warn",
            command="headrace restart api dashboard",
        )
        return
    tone = VERDICTS.get(answer["verdict"], "")
    with tag("section", f"panel diagnosis {tone}", aria_label="How it is"), tag("div", "grow"):
        with tag("div", "row"):
            verdict_badge(answer["verdict"])
            if not answer["monitored"]:
                text("span", "The role monitor does not run: verdicts see no further back than this API.", "soft small")
        text("p", answer["reason"] or "Every group of the pipeline keeps up.", "sentence")
    with tag("div", "grid"):
        figure(
            "Records that wait",
            waiting(answer),
            "in all groups of the pipeline",
            tone=tone if answer["waiting"] else "",
        )
        by = AGES.get(answer["seconds_by"], ABSENT) if answer["waiting"] else "nothing waits"
        figure("Oldest of them", age(answer), by)
        figure("In", rate(answer["rate_in"]), "written")
        figure("Out", rate(answer["rate_out"]), "committed")
        figure("Done in", drain(answer) if answer["waiting"] else "now", "by the slowest partition")
    with panel("Groups") as head:
        with head:
            _heat_legend()
        groups = answer["overview"]
        if not groups:
            empty("No group has committed anything.", "Start the pipeline:", "headrace up")
            return
        partitions = _partitions(answer["data"])
        columns = ("Group", "Topic", "Verdict", "Waiting#", "Oldest#", "In#", "Out#", "Done in#", "Partitions")
        with table("Lag by group and topic", columns):
            for group in groups:
                for topic in group["topics"]:
                    _topic_row(group, topic, partitions.get((group["group"], topic["topic"]), []))


def _topic_row(group: Mapping[str, Any], topic: Mapping[str, Any], partitions: Sequence[Mapping[str, Any]]) -> None:
    ours = group["state"].lower() if group["ours"] else f"not ours, {group['state'].lower()}"
    with tag("tr", data_id=f"{group['group']} {topic['topic']}"):
        cell(group["group"], "nowrap", href=f"/lag/{quote(group['group'], safe='')}", sub=ours, row=True)
        cell(topic["topic"], "nowrap")
        with tag("td"):
            verdict_badge(topic["verdict"])
            if topic["reason"]:
                text("span", topic["reason"], "sub break")
        _figure_cells(topic)
        with tag("td"):
            heat([(one["partition"], one["lag"]) for one in partitions])


def _figure_cells(figures: Mapping[str, Any]) -> None:
    cell(waiting(figures), "n" if figures["waiting"] else "n zero")
    cell(age(figures), "n" if figures["waiting"] else "n zero")
    cell(rate(figures["rate_in"]), "n")
    cell(rate(figures["rate_out"]), "n")
    cell(drain(figures), "n")


def _partitions(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["group"], row["topic"]), []).append(row)
    return found


def heat(partitions: Sequence[tuple[int, int]]) -> None:
    """A square per partition, the warmer the more waits in it."""
    if not partitions:
        text("span", ABSENT, "faint")
        return
    with tag("ul", "heat"):
        for place, count in partitions:
            said = f"partition {place}: {number(count)} waiting"
            with tag("li", warmth(count), title=said):
                text("span", said, "visually-hidden")


def warmth(count: int) -> str:
    """The class of a square. Pure."""
    return "" if not count else "h1" if count < 1_000 else "h2" if count < 100_000 else "h3"


def _heat_legend() -> None:
    with tag("ul", "legend", aria_hidden="true"):
        for level, words in (("", "none waits"), ("h1", "some"), ("h2", "from 1,000"), ("h3", "from 100,000")):
            with tag("li"), tag("span", "row"):
                with tag("span", "heat one"):
                    tag("span", f"square {level}".strip())
                text("span", words)


def _group(view: Mapping[str, Any]) -> None:
    tone = VERDICTS.get(view["verdict"], "")
    with tag("section", f"panel diagnosis {tone}", aria_label="How it is"), tag("div", "grow"):
        with tag("div", "row"):
            verdict_badge(view["verdict"])
            text(
                "span",
                f"{view['state']} {'group of the pipeline' if view['ours'] else 'group, not of this pipeline'}",
                "soft",
            )
        text("p", view["reason"] or "It keeps up.", "sentence")
        if view["gone"]:
            text("p", f"It has commits of topics that exist no more: {', '.join(view['gone'])}", "more")
    with tag("div", "grid"):
        figure(
            "Records that wait",
            waiting(view),
            counted(len(view["topics"]), "topic"),
            tone=tone if view["waiting"] else "",
        )
        figure("Oldest of them", age(view))
        figure("In", rate(view["rate_in"]))
        figure("Out", rate(view["rate_out"]))
        figure("Done in", drain(view) if view["waiting"] else "now")
    for topic in view["topics"]:
        with panel(topic["topic"]) as head:
            with head:
                heat([(one["partition"], one["waiting"]) for one in topic["partitions"]])
                verdict_badge(topic["verdict"])
            columns = (
                "Partition#",
                "Verdict",
                "Waiting#",
                "Oldest#",
                "In#",
                "Out#",
                "Done in#",
                "Committed#",
                "End#",
                "Remarks",
            )
            with table(f"Partitions of {topic['topic']}", columns):
                for one in topic["partitions"]:
                    with tag("tr"):
                        cell(one["partition"], "n")
                        with tag("td"):
                            verdict_badge(one["verdict"])
                        _figure_cells(one)
                        cell(number(one["committed"]), "n")
                        cell(number(one["end"]), "n")
                        cell("; ".join(_remarks(one)) or ABSENT, "words")


def _remarks(one: Mapping[str, Any]) -> list[str]:
    found = [one["reason"]] if one["reason"] else []
    if one["held"]:
        found.append(f"{number(one['held'])} offsets wait for an open transaction, for {seconds(one['held_seconds'])}")
    if one["expired"]:
        found.append(f"retention has taken {number(one['expired'])} that it has not read")
    if not one["exact"]:
        found.append("an upper bound: markers, aborted or compacted records may be among it")
    return found


def _history(answer: Mapping[str, Any]) -> None:
    minutes = answer["minutes"]
    if len(minutes) < 2:
        empty("Nothing is kept of it yet.", "The role monitor keeps a point per minute; the first come after two.")
        return
    waits: dict[str, list[tuple[int, float | None]]] = {}
    rates: dict[str, list[tuple[int, float | None]]] = {}
    for minute in minutes:
        at = _milliseconds(minute["at"])
        came = went = 0.0
        for topic, figures in minute["topics"].items():
            waits.setdefault(topic, []).append((at, figures["waiting"]))
            came += float(figures["rate_in"] or 0)
            went += float(figures["rate_out"] or 0)
        rates.setdefault("in", []).append((at, round(came, 1)))
        rates.setdefault("out", []).append((at, round(went, 1)))
    with tag("div", "grid wide"):
        for title, series in (("Records that wait, by topic", waits), ("Records per second", rates)):
            with tag("figure", "chart-wrap", role="img", aria_label=f"{title}, over {counted(len(minutes), 'minute')}"):
                text("figcaption", title, "soft small")
                ui.echart(lines(series))


def _milliseconds(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)
