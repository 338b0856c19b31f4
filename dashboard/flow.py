"""The flow of records as the API says it is, laid out in columns. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.parts import Tone

VERDICTS: dict[str, Tone] = {
    "OK": "ok", "WARN": "warn", "REWIND": "warn", "STALL": "bad", "STOP": "bad", "NO CONSUMER": "bad",
}  # fmt: skip

STATES: dict[str, Tone] = {"ok": "ok", "warn": "warn", "bad": "bad"}

SOURCES, RAW, AGENTS, CLEAN, SINK, CHANGED, FOLLOWERS, STORES = range(8)
"""The columns, from left to right."""

TOPICS = {"raw": RAW, "clean": CLEAN, "failures": CLEAN, "changed": CHANGED}

MOST_SOURCES = 8
"""Sources that are drawn; the table below has all of them."""


@dataclass(frozen=True)
class Node:
    """A place that records come through, and its own place in the drawing."""

    id: str
    name: str
    kind: str
    column: int
    tone: Tone
    low: bool = False
    """In the lane below the others."""


@dataclass(frozen=True)
class Label:
    """Words at a topic's way out, for all who read it: the fastest rate, and what waits for the slowest."""

    rate: float | None
    waiting: int
    tone: Tone


def nodes_of(overview: Mapping[str, Any]) -> dict[str, Node]:
    """The nodes that are drawn, by id."""
    found = [_node(one) for one in overview["nodes"]]
    sources = [one for one in found if one.column == SOURCES]
    left_out = {one.id for one in sources[MOST_SOURCES:]}
    return {one.id: one for one in sorted(found, key=lambda one: one.column) if one.id not in left_out}


def _node(one: Mapping[str, Any]) -> Node:
    tone, name, kind = STATES.get(one["state"], ""), one["name"], one["kind"]
    if kind == "topic":
        last = name.rpartition(".")[2]
        shown = one["dataset"] or ("dead letters" if last == "failures" else name)
        return Node(
            one["id"], shown, f".{last}" if one["dataset"] else "topic failures", TOPICS.get(last, CHANGED), tone
        )
    if kind == "sink":
        shown = name.rpartition(".")[2].removeprefix("sink-")
        column = {"landing": AGENTS, "postgres": SINK}.get(shown, FOLLOWERS)
        return Node(one["id"], shown, kind, column, tone, low=shown == "landing")
    if kind == "store":
        low = name == "postgres"
        return Node(one["id"], name.capitalize(), kind, CHANGED if low else STORES, tone, low)
    column = {"source": SOURCES, "agent": AGENTS, "relay": SINK}.get(kind, AGENTS)
    return Node(one["id"], name.rpartition(".")[2] if kind == "agent" else name, kind, column, tone)


def labels_of(edges: Sequence[Mapping[str, Any]]) -> dict[str, Label]:
    """By topic, the words at its way out."""
    order: tuple[Tone, ...] = ("", "ok", "warn", "bad")
    found: dict[str, Label] = {}
    for edge in edges:
        if edge["verdict"] is not None:
            tone = STATES.get(edge["state"], "")
            rate, waiting = edge["rate"], edge["waiting"] or 0
            if known := found.get(edge["source"]):
                rate = max((one for one in (rate, known.rate) if one is not None), default=None)
                waiting = max(waiting, known.waiting)
                tone = max(tone, known.tone, key=order.index)
            found[edge["source"]] = Label(rate, waiting, tone)
    return found
