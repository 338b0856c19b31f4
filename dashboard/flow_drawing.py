"""Draws the flow: columns from left to right, an edge from each place to the next, with what moves and what waits."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboard.elements import tag, text
from dashboard.flow import STATES, Label, Node, labels_of, nodes_of
from dashboard.words import number, rate

WIDTH, HEIGHT = 130, 50
GAP, ROW = 50, 64
LANE = 10
"""Between the lower lane and the rest."""
MARGIN = 6
LONGEST = 15

Place = tuple[float, float]


def places(nodes: Mapping[str, Node]) -> tuple[dict[str, Place], float, float]:
    """The upper left corner of each node, and the size of it all. Pure."""
    columns: dict[int, list[Node]] = {}
    for node in nodes.values():
        if not node.low:
            columns.setdefault(node.column, []).append(node)
    rows = max((len(column) for column in columns.values()), default=1)
    found: dict[str, Place] = {}
    for column, members in columns.items():
        top = (rows - len(members)) * ROW / 2
        for row, node in enumerate(members):
            found[node.id] = (MARGIN + column * (WIDTH + GAP), MARGIN + top + row * ROW)
    low = [node for node in nodes.values() if node.low]
    for node in low:
        found[node.id] = (MARGIN + node.column * (WIDTH + GAP), MARGIN + rows * ROW + LANE)
    last = max((node.column for node in nodes.values()), default=0)
    height = rows * ROW + (ROW + LANE if low else 0) - (ROW - HEIGHT) + 2 * MARGIN
    return found, 2 * MARGIN + last * (WIDTH + GAP) + WIDTH, height


def draw(overview: Mapping[str, Any], said: str) -> None:
    """The drawing; `said` is what it says, for who does not see it."""
    nodes = nodes_of(overview)
    found, width, height = places(nodes)
    edges: Sequence[Mapping[str, Any]] = [
        edge for edge in overview["edges"] if edge["source"] in found and edge["target"] in found
    ]
    with tag("svg", viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=said):
        for edge in edges:
            _edge(edge, found[edge["source"]], found[edge["target"]])
        for node in nodes.values():
            _node(node, found[node.id])
        for topic, label in labels_of(edges).items():
            _label(label, found[topic])


def _node(node: Node, place: Place) -> None:
    x, y = place
    with tag("g", f"node {node.tone}".strip()):
        text("title", f"{node.name}, {node.kind}")
        tag("rect", x=x, y=y, width=WIDTH, height=HEIGHT, rx=9)
        tag("circle", "light", cx=x + WIDTH - 13, cy=y + HEIGHT - 14, r=4)
        cut = node.name if len(node.name) <= LONGEST else f"{node.name[: LONGEST - 1]}…"
        text("text", cut, "name", x=x + 11, y=y + 21)
        text("text", node.kind, "kind", x=x + 11, y=y + 40)


def _edge(edge: Mapping[str, Any], start: Place, end: Place) -> None:
    y1, y2 = start[1] + HEIGHT / 2, end[1] + HEIGHT / 2
    back = end[0] <= start[0]
    x1, x2 = (start[0], end[0] + WIDTH) if back else (start[0] + WIDTH, end[0])
    bend = -GAP / 2 if back else GAP / 2
    # Past other columns: level first, then to its end.
    level = f" H{x2 - GAP:.1f}" if x2 - x1 > GAP else ""
    path = f"M{x1:.1f} {y1:.1f}{level} C{x2 - bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    words = ("edge", STATES.get(edge["state"], ""), "moving" if edge["rate"] else "")
    with tag("g", " ".join(filter(None, words))):
        tag("path", d=path)


def _label(label: Label, topic: Place) -> None:
    x, y = topic[0] + WIDTH + 5, topic[1] + HEIGHT / 2
    with tag("g", f"edge words {label.tone}".strip()):
        if label.rate:
            text("text", rate(label.rate), x=x, y=y - 6)
        if label.waiting:
            text("text", number(label.waiting), "wait", x=x, y=y + 16)
