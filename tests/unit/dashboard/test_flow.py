from typing import Any

from dashboard.flow import AGENTS, CHANGED, FOLLOWERS, SINK, flow_of
from dashboard.flow_drawing import places
from dashboard.pages.overview import diagnose


def topic(name: str, **figures: Any) -> dict[str, Any]:
    still = {
        "waiting": 0, "exact": True, "seconds": 0, "seconds_by": "record", "rate_in": 0, "rate_out": 0,
        "verdict": "OK", "reason": "",
    }  # fmt: skip
    return {"topic": name, **still, **figures}


def lag(*groups: dict[str, Any], **figures: Any) -> dict[str, Any]:
    return {**topic(""), "drain_seconds": None, "overview": list(groups), **figures}


def group(name: str, *topics: dict[str, Any], ours: bool = True) -> dict[str, Any]:
    return {"group": name, "ours": ours, "topics": list(topics)}


RUNS = [{"source": "shop", "dataset": "customers", "status": "success", "failure_reason": None}]
HEALTH = {"status": "healthy", "components": {name: {"status": "up"} for name in ("postgres", "redis", "kafka")}}
LAG = lag(
    group("t.normalizer", topic("t.customers.raw", rate_out=12.5, waiting=3)),
    group("t.sink-postgres", topic("t.customers.clean"), topic("t.failures")),
    group("t.sink-landing", topic("t.customers.raw")),
    group("t.sink-redis", topic("t.customers.changed", verdict="STOP", waiting=812, reason="commits nothing")),
    group("somebody-else", topic("t.customers.raw"), ours=False),
)


def test_records_flow_from_sources_to_stores() -> None:
    flow = flow_of(LAG, RUNS, HEALTH)
    assert [(edge.start, edge.end) for edge in flow.edges] == [
        ("source shop", "topic customers.raw"),
        ("topic customers.raw", "group normalizer"),
        ("topic customers.raw", "group sink-landing"),
        ("topic customers.clean", "group sink-postgres"),
        ("topic failures", "group sink-postgres"),
        ("topic customers.changed", "group sink-redis"),
        ("group normalizer", "topic customers.clean"),
        ("group normalizer", "topic failures"),
        ("group sink-postgres", "topic customers.changed"),
        ("group sink-landing", "store Postgres"),
        ("group sink-postgres", "store Postgres"),
        ("group sink-redis", "store Redis"),
    ]
    by_id = flow.nodes
    columns = [by_id[name].column for name in ("group normalizer", "group sink-postgres", "group sink-redis")]
    assert columns == [AGENTS, SINK, FOLLOWERS]
    assert by_id["store Postgres"].column == CHANGED
    assert by_id["group sink-redis"].tone == "bad"


def test_an_edge_has_what_the_api_says_of_its_reader() -> None:
    [edge] = [one for one in flow_of(LAG, RUNS, HEALTH).edges if one.end == "group normalizer"]
    assert (edge.rate, edge.waiting, edge.state, edge.group) == (12.5, 3, "OK", "t.normalizer")


def test_no_two_nodes_are_drawn_at_one_place() -> None:
    flow = flow_of(LAG, RUNS, HEALTH)
    found, width, height = places(flow)
    assert len(set(found.values())) == len(flow.nodes)
    assert all(0 < x < width and 0 < y < height for x, y in found.values())


def test_the_worst_comes_first_in_the_diagnosis() -> None:
    down = {"status": "unhealthy", "components": {"postgres": {"status": "down", "reason": "refused"}}}
    stopped = lag(verdict="STOP", reason="sink-postgres: customers.clean: committed nothing for 94 s", waiting=812)
    assert diagnose(stopped, down, None, []).sentence == "Postgres does not answer."
    said = diagnose(stopped, HEALTH, None, [])
    assert (said.sentence, said.tone) == ("sink-postgres: customers.clean: committed nothing for 94 s.", "bad")
    assert said.more.startswith("812 behind")
    well = diagnose(lag(), HEALTH, {"clean": True, "partitions": []}, [{"count": 2}])
    assert (well.tone, well.more) == ("ok", "2 dead letters waiting for somebody to decide.")
