"""Draws the flow: columns from left to right, an edge from each place to the next, with what moves and what waits."""

from dashboard.elements import tag, text
from dashboard.flow import Edge, Flow, Node
from dashboard.words import number, rate

WIDTH, HEIGHT = 112, 44
GAP, ROW = 72, 62
MARGIN = 6
LONGEST = 15

Place = tuple[float, float]


def places(flow: Flow) -> tuple[dict[str, Place], float, float]:
    """The upper left corner of each node, and the size of it all. Pure."""
    columns: dict[int, list[Node]] = {}
    for node in flow.nodes.values():
        if not node.low:
            columns.setdefault(node.column, []).append(node)
    rows = max((len(nodes) for nodes in columns.values()), default=1)
    found: dict[str, Place] = {}
    for column, nodes in columns.items():
        top = (rows - len(nodes)) * ROW / 2
        for row, node in enumerate(nodes):
            found[node.id] = (MARGIN + column * (WIDTH + GAP), MARGIN + top + row * ROW)
    low = [node for node in flow.nodes.values() if node.low]
    for node in low:
        found[node.id] = (MARGIN + node.column * (WIDTH + GAP), MARGIN + rows * ROW + 10)
    last = max((node.column for node in flow.nodes.values()), default=0)
    height = (rows * ROW + (ROW + 10 if low else 0)) - (ROW - HEIGHT) + 2 * MARGIN
    return found, 2 * MARGIN + last * (WIDTH + GAP) + WIDTH, height


def draw(flow: Flow, said: str) -> None:
    """The drawing; `said` is what it says, for who does not see it."""
    found, width, height = places(flow)
    with tag("svg", viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=said):
        for edge in flow.edges:
            _edge(edge, found[edge.start], found[edge.end])
        for node in flow.nodes.values():
            _node(node, found[node.id])


def _node(node: Node, place: Place) -> None:
    x, y = place
    with tag("g", f"node {node.tone}".strip()):
        text("title", f"{node.name}, {node.kind}")
        tag("rect", x=x, y=y, width=WIDTH, height=HEIGHT, rx=9)
        tag("circle", "light", cx=x + WIDTH - 12, cy=y + 13, r=3.5)
        cut = node.name if len(node.name) <= LONGEST else f"{node.name[: LONGEST - 1]}…"
        text("text", cut, "name", x=x + 10, y=y + 19)
        text("text", node.kind, "kind", x=x + 10, y=y + 35)


def _edge(edge: Edge, start: Place, end: Place) -> None:
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT / 2
    x2, y2 = end[0], end[1] + HEIGHT / 2
    bend = (x2 - x1) / 2 if x2 - x1 < 2 * GAP else GAP / 2
    moving = "moving" if edge.rate else ""
    with tag("g", " ".join(filter(None, ("edge", edge.tone, moving)))):
        if x2 - x1 < 2 * GAP:
            tag("path", d=f"M{x1:.1f} {y1:.1f} C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}")
        else:
            # Past other columns: level first, then to its end.
            tag("path", d=f"M{x1:.1f} {y1:.1f} H{x2 - GAP:.1f} "
                f"C{x2 - bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}")  # fmt: skip
        # Near the end that is one of several, so that the words of edges that meet do not meet too.
        x, y = (x1 + 5, y1) if edge.waiting is not None else (x2 - 5, y2)
        anchor = "start" if edge.waiting is not None else "end"
        if edge.rate:
            text("text", rate(edge.rate), x=x, y=y - 5, text_anchor=anchor)
        if edge.waiting:
            text("text", f"{number(edge.waiting)} wait", x=x, y=y + 13, text_anchor=anchor)
