"""`/topics`: every topic, and `/topics/{topic}`: its messages, and one record to try the pipeline with."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from nicegui import ui
from nicegui.element import Element
from starlette.requests import Request

from dashboard.api_client import ApiProblem
from dashboard.dialogs import open_dialog
from dashboard.elements import instead, tag, text, working
from dashboard.filters import filters, words
from dashboard.links import peek_command, trace_path
from dashboard.live import Live
from dashboard.parts import badge, cell, command_line, empty, exports, notice, pairs, panel, table, told_problem
from dashboard.payloads import as_json, pretty
from dashboard.shell import RESPONSE_SECONDS, Page, page
from dashboard.words import ABSENT, ago, moment, number, seconds

FILTERS = ("key", "partition", "from", "limit")


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/topics", response_timeout=RESPONSE_SECONDS)
    async def topics(request: Request) -> None:
        lead = "The pipeline's topics, as they are declared and as the broker has them."
        with page(live, request, "/topics", "Topics", lead) as (shown, tools):
            with tools:
                exports("/export/topics")
            await shown.show("/topics", _topics, tall=True)
            command_line("headrace topics")

    @ui.page("/topics/{topic}", response_timeout=RESPONSE_SECONDS)
    async def topic(request: Request, topic: str) -> None:
        wanted = {name: request.query_params[name] for name in FILTERS if request.query_params.get(name)}
        path = f"/topics/{quote(topic, safe='')}"
        with page(live, request, "/topics", topic, crumbs=(("/topics", "Topics"),)) as (shown, tools):
            await shown.show_once("/topics", lambda answer: _described(shown, answer, topic, tools), quiet=True)
            with filters(path, wanted, "Look"):
                words("key", "Key", wanted, "in any form", search=True)
                words("partition", "Partition", wanted, "all")
                words("from", "From", wanted, "-10, an offset, 30m, or a time")
                words("limit", "At most", wanted, "10")
            await shown.show(f"{path}/messages?{urlencode(wanted)}", _messages, every=5.0, tall=True)
            command_line(peek_command(topic, wanted))


def _described(shown: Page, answer: Mapping[str, Any], topic: str, tools: Element) -> None:
    for one in answer["data"]:
        if one["name"] == topic:
            text("p", f"{one['carries']}: {one['description']}", "soft")
            if one["takes_test_records"]:
                with tools:
                    button = text("button", "Produce a test record…", "button", type="button")
                button.on("click", partial(_produce, shown, one), [])


def _topics(answer: Mapping[str, Any]) -> None:
    with panel("Topics"), table(
        "Topics", ("Topic", "What it carries", "Partitions#", "Written#", "Kept#", "For", "Written by", "Read by")
    ):  # fmt: skip
        for one in answer["data"]:
            with tag("tr", data_id=one["name"]):
                cell(one["name"], "nowrap", href=f"/topics/{quote(one['name'], safe='')}", row=True)
                cell(one["carries"], "words")
                cell(number(one["partitions"]) if one["partitions"] else "not there yet", "n")
                cell(number(one["written"]), "n")
                cell(number(one["kept"]), "n")
                cell(seconds(one["kept_hours"] * 3600), "nowrap", sub=one["cleanup_policy"])
                cell(one["written_by"], "break")
                cell(", ".join(one["read_by"]) or ABSENT, "break")


def _messages(answer: Mapping[str, Any]) -> None:
    messages = answer["messages"]
    with panel("Messages, newest first") as head:
        with head:
            looked = sum(one["end"] - one["first"] for one in answer["looked"])
            text("span", f"{number(len(messages))} of {number(looked)} offsets that were looked at", "soft small")
        if answer["stopped"]:
            notice("The look ended early", answer["stopped"], tone="warn")
        if not messages:
            empty("No message is there.", "Look further back, take the key away, or produce a record.")
            return
        with table("Messages", ("When", "Key", "Place", "Value", "Headers")):
            for one in messages:
                with tag("tr", data_id=f"{one['partition']}/{one['offset']}"):
                    cell(ago(one["timestamp"]), "nowrap", sub=moment(one["timestamp"]))
                    _key(answer["topic"], one["key"])
                    cell(f"partition {one['partition']}", "nowrap", sub=f"offset {one['offset']:,}")
                    with tag("td", "words"):
                        if one["remark"]:
                            badge(one["remark"], "warn")
                        _value(one)
                    with tag("td", "words"), tag("details"):
                        text("summary", f"{len(one['headers'])} headers")
                        pairs((name, ABSENT if value is None else value) for name, value in one["headers"].items())


def _key(topic: str, key: str | None) -> None:
    dataset = topic.rpartition(".")[0].rpartition(".")[2]
    href = trace_path(dataset, key) if key and dataset and topic != "failures" else None
    cell(key or "no key", "break", href=href, row=bool(href))


def _value(one: Mapping[str, Any]) -> None:
    if one["kind"] == "none":
        text("span", "no value: it deletes its key", "faint")
        return
    shown = one["value"] if isinstance(one["value"], str) else as_json(one["value"])
    with tag("details"):
        text("summary", shown[:160] + ("…" if len(shown) > 160 else ""), "mono break")
        text("pre", shown if isinstance(one["value"], str) else pretty(shown), "mono pre")
        if one["truncated"]:
            text("p", f"cut: it has {number(one['bytes'])} bytes", "faint small")
        if one.get("payload"):
            text("p", "The rejected bytes:", "soft small")
            text("pre", one["payload"], "mono pre")


def _produce(shown: Page, described: Mapping[str, Any]) -> None:
    example = pretty(as_json(described["example"] or {}))
    state = {"text": example}
    path = f"/topics/{quote(described['name'], safe='')}/messages"
    sheet = open_dialog(shown, f"One record into {described['name']}")
    with sheet.body:
        text(
            "p",
            "It takes the whole way, like any other: it is stored, or becomes a dead letter. A key that is there "
            "already gets this record as its newest.",
        )
        with tag("label", "field"):
            text("span", "The record, a JSON object")
            area = tag("textarea", defaultValue=example, rows=12, spellcheck="false")
        command_line(f"headrace push {described['dataset']} record.jsonl --wait")
        told = tag("div", "stack")
    with sheet.foot:
        send = text("button", "Produce it", "button main", type="button")
    for event in ("input", "change"):
        area.on(event, lambda one: state.update(text=str(one.args)), js_handler="(e) => emit(e.target.value)")

    async def produce() -> None:
        with working(send) as free:
            if free:
                await put()

    async def put() -> None:
        with instead(told):
            try:
                record = msgspec.json.decode(state["text"], type=dict[str, Any])
            except msgspec.MsgspecError as error:
                notice("It is no JSON object", str(error), tone="bad")
                return
            try:
                done = await shown.api.act("POST", path, shown.who, record)
            except ApiProblem as problem:
                told_problem(problem)
                return
            notice("The broker has it", f"partition {done['partition']}, offset {done['offset']:,}", tone="ok")
            if done["key"]:
                text("a", "Trace it", href=trace_path(done["dataset"], done["key"]))

    send.on("click", produce, [])
