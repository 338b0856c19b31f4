"""Alert rules, dashboards, scrape configuration and runbook fit the metrics that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from local_stack.programs import ROLES
from runtime.metrics import METRICS
from stores.tables import OUTCOMES

PROJECT = Path(__file__).parents[2]
PROMETHEUS = PROJECT / "deploy/prometheus"
BOARDS = sorted((PROJECT / "deploy/grafana/dashboards").glob("*.json"))
RULES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
JOBS = {one["job_name"]: one for one in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]}
SERVICES = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]

OF_EVERY_TARGET = {"job", "instance"}
THEIRS = {"up": set[str](), "process_cpu_seconds_total": set[str](), "process_resident_memory_bytes": set[str]()}
"""Metrics that Prometheus and its client add."""

SAMPLES = THEIRS | {
    sample: {*one.labels, *({"le"} if sample.endswith("_bucket") else ())} for one in METRICS for sample in one.samples
}

VALUES = {
    "verdict": {"OK", "WARN", "REWIND", "STALL", "STOP", "NO CONSUMER"},
    "outcome": {*OUTCOMES, "repeat", "reprocessed", "taken", "refused", "clean"},
    "use": {"hit", "miss", "bypass"},
    "backend": {"postgres", "elasticsearch"},
    "breaking": {"yes", "no"},
}
"""The values that a label may have, where we give them."""


def panels() -> Iterator[tuple[str, str, str]]:
    """Dashboard, panel and expression."""
    for board in BOARDS:
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel["targets"]:
                yield board.stem, panel["title"], target["expr"]


EXPRESSIONS = {f"alert {rule['alert']}": rule["expr"] for rule in RULES} | {
    f"{board}: {title}: {expr[:30]}": expr for board, title, expr in panels()
}


def selectors(node: Any) -> Iterator[Any]:
    """Every vector selector of an expression."""
    if isinstance(node, promql.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "param"):
        if (part := getattr(node, name, None)) is not None and not isinstance(part, str):
            yield from selectors(part)
    for part in getattr(node, "args", None) or ():
        yield from selectors(part)


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_every_expression_uses_metrics_and_labels_that_there_are(expression: str) -> None:
    found = list(selectors(promql.parse(expression)))
    names = set(re.findall(r"\b(?:headrace|kafka|process)_[a-z_]+", re.sub(r"\{[^}]*\}", "", expression)))
    assert names <= {one.name for one in found}, "the walk has missed one"
    for one in found:
        assert one.name in SAMPLES, f"there is no metric {one.name}"
        for matcher in one.matchers.matchers:
            assert matcher.name in SAMPLES[one.name] | OF_EVERY_TARGET, f"{one.name} has no label {matcher.name}"
            if matcher.name in VALUES:
                for value in matcher.value.split("|"):
                    assert value in VALUES[matcher.name], f"{one.name}: {matcher.name} is never {value!r}"
    for labels in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        for label in filter(None, map(str.strip, labels.split(","))):
            assert any(label in SAMPLES[one.name] | OF_EVERY_TARGET for one in found), label


def test_what_is_checked_is_found_at_all() -> None:
    found = selectors(promql.parse('sum(rate(a{x="1"}[5m])) / max by (y) (b) > 3 and on (y) c'))
    assert {one.name for one in found} == {"a", "b", "c"}
    assert len(EXPRESSIONS) > 40


def test_promtool_takes_the_rules_where_there_is_one(tmp_path: Path) -> None:
    if tool := shutil.which("promtool"):
        done = subprocess.run([tool, "check", "rules", str(PROMETHEUS / "alerts.yml")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_links_to_its_paragraph_of_the_runbook(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    found = [one.name for one in selectors(promql.parse(rule["expr"]))]
    assert all(any(label in SAMPLES[name] | OF_EVERY_TARGET for name in found) for label in used)
    document, _, anchor = rule["annotations"]["runbook"].partition("#")
    titles = re.findall(r"^## (\w+)$", (PROJECT / document).read_text(), re.MULTILINE)
    assert rule["alert"] in titles
    assert anchor == rule["alert"].lower()


def test_the_runbook_has_a_paragraph_for_each_alert_and_each_rule_of_alarms_toml() -> None:
    text = (PROJECT / "docs/runbook.md").read_text()
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [rule["alert"] for rule in RULES]
    shipped = set(re.findall(r"^\[rules\.(\w+)\]", (PROJECT / "alarms.toml").read_text(), re.MULTILINE))
    assert set(re.findall(r"^Rule `(\w+)`\.", text, re.MULTILINE)) == shipped - {"kafka_away"}


def test_each_role_that_counts_something_is_scraped_under_its_name() -> None:
    counting = {role for one in METRICS for role in one.roles}
    assert counting <= {role.name for role in ROLES}
    assert JOBS.keys() == counting - {"watchdog"}, "the watchdog belongs to the local stack"
    for name, job in JOBS.items():
        [discovery] = job["dns_sd_configs"]
        assert discovery["names"] == [name]
        assert name in SERVICES
        own = SERVICES[name]["environment"]
        assert discovery["port"] == (own["API_PORT"] if name == "api" else own["HEALTH_PORT"])
        assert own["HEALTH_BIND"] == "0.0.0.0"  # noqa: S104 (within the containers' network)


def test_prometheus_and_grafana_start_on_demand_on_loopback_with_what_is_in_deploy() -> None:
    for name in ("prometheus", "grafana"):
        service = SERVICES[name]
        assert service["profiles"] == ["observability"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith("./") or (PROJECT / source).is_dir(), source
    [source] = yaml.safe_load((PROJECT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((PROJECT / "deploy/grafana/provisioning/dashboards/headrace.yml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (PROJECT / "deploy/grafana/dashboards" / Path(home).name).exists()


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_panels_that_do_not_overlap_and_know_their_source(board: Path) -> None:
    content = json.loads(board.read_text())
    assert content["uid"] == board.stem
    taken: set[tuple[int, int]] = set()
    for panel in content["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "prometheus"
        assert all(x < 24 for x, _ in cells)
    assert len({panel["id"] for panel in content["panels"]}) == len(content["panels"])


def test_an_engine_takes_the_profile_where_there_is_one() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return
    words = [docker, "compose", "--profile", "observability", "config", "--format", "json"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"prometheus", "grafana"} <= json.loads(done.stdout)["services"].keys()
