from typing import Any

from dashboard.flow import AGENTS, CHANGED, CLEAN, FOLLOWERS, RAW, SINK, SOURCES, STORES, Label, labels_of, nodes_of
from dashboard.flow_drawing import places


def node(kind: str, name: str, dataset: str | None = None, state: str = "ok") -> dict[str, Any]:
    return {"id": f"{kind}:{name}", "kind": kind, "name": name, "state": state, "dataset": dataset, "detail": None}


def edge(source: str, target: str, **figures: Any) -> dict[str, Any]:
    return {
        "source": source,
        "target": target,
        "state": "ok",
        "rate": None,
        "waiting": None,
        "verdict": None,
        **figures,
    }


OVERVIEW = {
    "nodes": [
        node("topic", "t.customers.raw", "customers"),
        node("source", "shop", "customers"),
        node("agent", "t.normalizer"),
        node("sink", "t.sink-landing"),
        node("topic", "t.customers.clean", "customers"),
        node("topic", "t.failures"),
        node("sink", "t.sink-postgres", state="bad"),
        node("relay", "relay"),
        node("store", "postgres"),
        node("topic", "t.customers.changed", "customers"),
        node("sink", "t.sink-redis"),
        node("store", "redis"),
    ],
    "edges": [],
}


def test_records_flow_from_left_to_right() -> None:
    shown = {one.name + one.kind: (one.column, one.low) for one in nodes_of(OVERVIEW).values()}
    assert shown == {
        "shopsource": (SOURCES, False),
        "customers.raw": (RAW, False),
        "normalizeragent": (AGENTS, False),
        "landingsink": (AGENTS, True),
        "customers.clean": (CLEAN, False),
        "dead letterstopic failures": (CLEAN, False),
        "postgressink": (SINK, False),
        "relayrelay": (SINK, False),
        "Postgresstore": (CHANGED, True),
        "customers.changed": (CHANGED, False),
        "redissink": (FOLLOWERS, False),
        "Redisstore": (STORES, False),
    }
    assert nodes_of(OVERVIEW)["sink:t.sink-postgres"].tone == "bad"


def test_no_two_nodes_are_drawn_at_one_place() -> None:
    nodes = nodes_of(OVERVIEW)
    found, width, height = places(nodes)
    assert len(set(found.values())) == len(nodes)
    assert all(0 < x < width and 0 < y < height for x, y in found.values())


def test_a_topic_tells_of_its_fastest_and_its_slowest_reader() -> None:
    edges = [
        edge("topic:a", "sink:x", rate=10.0, waiting=0, verdict="OK"),
        edge("topic:a", "sink:y", rate=0.0, waiting=812, verdict="STOP", state="bad"),
        edge("agent:n", "topic:a", rate=10.0),
    ]
    assert labels_of(edges) == {"topic:a": Label(10.0, 812, "bad")}


def test_a_drawing_has_room_for_eight_sources() -> None:
    many = {"nodes": [node("source", f"s{number}") for number in range(30)], "edges": []}
    assert len(nodes_of(many)) == 8
