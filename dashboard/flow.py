"""The flow of records as nodes and edges, made of what the API says of lag, runs and stores. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["ok", "warn", "bad", ""]

VERDICTS: dict[str, Tone] = {
    "OK": "ok",
    "WARN": "warn",
    "REWIND": "warn",
    "STALL": "bad",
    "STOP": "bad",
    "NO CONSUMER": "bad",
}
STORE_TONES: dict[str, Tone] = {"up": "ok", "degraded": "warn", "down": "bad"}

SOURCES, RAW, AGENTS, CLEAN, SINK, CHANGED, FOLLOWERS, STORES = range(8)
"""The columns, from left to right."""

MOST_SOURCES = 8

STORE_OF = {"postgres": "Postgres", "landing": "Postgres", "elasticsearch": "Elasticsearch", "redis": "Redis"}


@dataclass(frozen=True)
class Node:
    """A place that records come through."""

    id: str
    name: str
    kind: str
    column: int
    tone: Tone = ""
    low: bool = False
    """In the lane below the others."""


@dataclass(frozen=True)
class Edge:
    """A way from one place to the next. What is not known is None."""

    start: str
    end: str
    tone: Tone = ""
    rate: float | None = None
    waiting: int | None = None
    exact: bool = True
    seconds: float | None = None
    state: str = ""
    reason: str = ""
    group: str | None = None
    """The consumer group that reads it, if one does."""


@dataclass
class Flow:
    """Nodes by id, and edges in the order in which records take them."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    def add(self, node: Node) -> None:
        """Take a node in, once."""
        self.nodes.setdefault(node.id, node)


def flow_of(lag: Mapping[str, Any] | None, runs: Sequence[Mapping[str, Any]], health: Mapping[str, Any] | None) -> Flow:
    """The flow: sources, raw topics, the agent, clean topics, sinks, topics of changes, and stores."""
    flow = Flow()
    readers = _readers(lag)
    _sources(flow, runs, readers)
    for (group, dataset, kind), row in readers.items():
        topic = _topic(flow, dataset, kind)
        reader = _reader(flow, group, row)
        flow.edges.append(_reading(topic, reader, row))
    _outputs(flow, readers)
    _stores(flow, (health or {}).get("components", {}))
    return flow


def _readers(lag: Mapping[str, Any] | None) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """By group (without a namespace), dataset and kind of topic: what the API says of it."""
    found = {}
    for group in (lag or {}).get("overview", ()):
        if group["ours"]:
            name = group["group"].rpartition(".")[2]
            for topic in group["topics"]:
                *before, kind = topic["topic"].split(".")
                found[name, before[-1] if before and kind != "failures" else "", kind] = {
                    **topic,
                    "group": group["group"],
                }
    order = {"raw": 0, "clean": 1, "failures": 2, "changed": 3}
    return dict(sorted(found.items(), key=lambda one: (order.get(one[0][2], 9), one[0][1], one[0][0])))


def _sources(flow: Flow, runs: Sequence[Mapping[str, Any]], readers: Mapping[tuple[str, str, str], Any]) -> None:
    latest: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        latest.setdefault(run["source"], run)
    tones: dict[str, Tone] = {"success": "ok", "failed": "bad", "running": "ok"}
    for run in sorted(latest.values(), key=lambda one: (one["dataset"], one["source"]))[:MOST_SOURCES]:
        tone = tones.get(run["status"], "")
        source = f"source {run['source']}"
        flow.add(Node(source, run["source"], "source", SOURCES, tone))
        topic = _topic(flow, run["dataset"], "raw")
        row = readers.get(("normalizer", run["dataset"], "raw"))
        moving = row["rate_in"] if row and run["status"] == "running" else None
        state = {"success": "read", "failed": "failed", "running": "being read"}.get(run["status"], run["status"])
        flow.edges.append(Edge(source, topic, tone, moving, state=state, reason=run["failure_reason"] or ""))


def _topic(flow: Flow, dataset: str, kind: str) -> str:
    name = f"topic {dataset}.{kind}" if dataset else f"topic {kind}"
    column = {"raw": RAW, "clean": CLEAN, "failures": CLEAN, "changed": CHANGED}.get(kind, CHANGED)
    flow.add(Node(name, dataset or "dead letters", f".{kind}" if dataset else "topic failures", column))
    return name


def _reader(flow: Flow, group: str, row: Mapping[str, Any]) -> str:
    verdict = VERDICTS.get(row["verdict"], "")
    known = flow.nodes.get(f"group {group}")
    if known is not None and _worse(verdict, known.tone) != known.tone:
        del flow.nodes[known.id]
    tone = verdict if known is None else _worse(verdict, known.tone)
    if group == "normalizer":
        flow.add(Node("group normalizer", "normalizer", "agent", AGENTS, tone))
    else:
        name = group.removeprefix("sink-")
        column = AGENTS if name == "landing" else SINK if name == "postgres" else FOLLOWERS
        flow.add(Node(f"group {group}", name, "sink", column, tone, low=name == "landing"))
    return f"group {group}"


def _worse(one: Tone, other: Tone) -> Tone:
    order: tuple[Tone, ...] = ("", "ok", "warn", "bad")
    return max(one, other, key=order.index)


def _reading(topic: str, reader: str, row: Mapping[str, Any]) -> Edge:
    return Edge(
        topic,
        reader,
        VERDICTS.get(row["verdict"], ""),
        row["rate_out"],
        row["waiting"],
        row["exact"],
        row["seconds"],
        row["verdict"],
        row["reason"],
        row["group"],
    )


def _outputs(flow: Flow, readers: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> None:
    """What the agent and the Postgres sink write: as much as comes to those topics."""
    makers = {"clean": "group normalizer", "failures": "group normalizer", "changed": "group sink-postgres"}
    seen: set[str] = set()
    for (_, dataset, kind), row in readers.items():
        topic = f"topic {dataset}.{kind}" if dataset else f"topic {kind}"
        # What the API writes comes to its topic of changes by the relay, not from a topic of ours.
        by_relay = kind == "changed" and f"topic {dataset}.clean" not in flow.nodes
        if kind in makers and makers[kind] in flow.nodes and topic not in seen and not by_relay:
            seen.add(topic)
            flow.edges.append(Edge(makers[kind], topic, "ok", row["rate_in"], state="writes"))


def _stores(flow: Flow, components: Mapping[str, Mapping[str, Any]]) -> None:
    for group in [node for node in flow.nodes.values() if node.kind == "sink"]:
        store = STORE_OF.get(group.name)
        if store is None or not (found := components.get(store.lower())):
            continue
        column = CHANGED if store == "Postgres" else STORES
        tone = STORE_TONES.get(found["status"], "")
        flow.add(Node(f"store {store}", store, "store", column, tone, low=store == "Postgres"))
        state = found.get("reason") or found["status"]
        flow.edges.append(
            Edge(group.id, f"store {store}", tone, state=found["status"], reason="" if state == "up" else state)
        )
