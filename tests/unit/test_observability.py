"""Alert rules, dashboards, scrape configuration and runbook fit the metrics that there are."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from local_stack.programs import ROLES
from runtime.metrics import METRICS
from runtime.settings import Settings
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
    "use": {"hit", "miss", "bypass", "none"},
    "backend": {"postgres", "postgres_only", "elasticsearch"},
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


BORN_WITH_THEIR_FIRST_EVENT = {
    "headrace_http_requests_total": "routes by statuses would be hundreds, and its alert needs minutes of errors",
    "headrace_http_request_seconds_bucket": "as many routes, and one request makes no quantile",
    "headrace_dead_letters_total": "nobody has a list of all reason codes",
}
"""Names that are rated and are not there at the start, and why."""

FRESH = """
import asyncio, sys
from pathlib import Path

from api.app import create_app
from local_stack.programs import ROLES
from local_stack.state_folder import StateFolder
from runtime.instruments import exposition
from runtime.metrics import METRICS
from runtime.settings import Settings
from schemas.registry import ingested_datasets
from services.runs import scheduler
from services.watchdog import Watchdog
from sinks.landing import LandingSink
from sinks.outbox_relay import OutboxRelay
from sinks.postgres.sink import PostgresSink
from sinks.runner import Runner
from stream_processors.normalizer import NormalizerStage
from stream_processors.normalizer_metrics import Counts

home = Path(sys.argv[1])
sources = home / "sources.toml"
sources.write_text("[sources.letters]\\nkind = 'csv'\\npath = 'a.csv'\\ndataset = 'records'\\nkey = 'n'\\n")
nowhere = "127.0.0.1:9"
settings = Settings(
    sources_file=sources, etl_interval=1000, database_url=f"postgresql://{nowhere}/x", kafka_bootstrap_servers=nowhere
)


async def never_run(*_):
    return {}


async def start():
    made = LandingSink(settings), PostgresSink(settings)
    runners = [Runner(sink, settings) for sink in made], OutboxRelay(settings)
    stages = [NormalizerStage(dataset, settings, None, None, Counts()) for dataset in ingested_datasets()]
    dog = Watchdog(settings, StateFolder(home))
    scheduler.ask = never_run
    schedule = scheduler.Scheduler(settings)
    await schedule._read_sources()
    api = create_app(settings)
    async with api.router.lifespan_context(api):
        pass


asyncio.run(start())
for role in ROLES:
    METRICS.expose(role.name)
(home / "exposition").write_bytes(exposition(None)[1])
"""


def test_what_is_rated_is_there_at_zero_when_a_process_has_just_begun(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "exposition").read_text()
    there = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {sample.name: set[float]() for sample in there}
    for sample in there:
        values[sample.name].add(sample.value)
    rated = {
        one.name
        for expression in EXPRESSIONS.values()
        for one in selectors(promql.parse(expression))
        if re.search(rf"(rate|increase)\(\s*{one.name}\b", expression) and one.name.startswith("headrace_")
    }
    assert len(rated) > 10
    assert {name for name in rated if values.get(name) != {0.0}} == BORN_WITH_THEIR_FIRST_EVENT.keys()

    labels = {(sample.name, frozenset(sample.labels.items())) for sample in there}
    for name, given in (
        ("headrace_etl_runs_total", {"source": "letters", "status": "failed"}),
        ("headrace_schema_drift_total", {"dataset": "customers", "what": "lost", "breaking": "yes"}),
        ("headrace_watchdog_restarts_total", {"group": "sink-postgres"}),
        ("headrace_sink_outcomes_total", {"dataset": "customers", "outcome": "failed"}),
        ("headrace_sink_records_gone_total", {"sink": "landing", "topic": "customers.raw"}),
        ("headrace_cache_reads_total", {"dataset": "customers", "use": "bypass"}),
    ):
        assert (name, frozenset(given.items())) in labels, name


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


def test_each_job_that_is_scraped_is_missed_when_it_does_not_answer_and_when_it_is_gone() -> None:
    [down], [gone] = (
        [rule["expr"] for rule in RULES if rule["alert"] == f"HeadraceProcess{what}"] for what in ("Down", "Gone")
    )
    [regex] = re.findall(r'^up\{job=~"([^"]+)"\} == 0$', down)
    assert all(re.fullmatch(regex, job) for job in JOBS)
    assert sorted(re.findall(r'\babsent\(up\{job="([^"]+)"\}\)', gone)) == sorted(JOBS)


def test_routes_of_which_nobody_is_told_that_they_are_slow_are_routes_of_the_api() -> None:
    [slow] = [rule["expr"] for rule in RULES if rule["alert"] == "HeadraceApiSlow"]
    [left_out] = re.findall(r'route!~"([^"]+)"', slow)
    routes = create_app(Settings()).openapi()["paths"]
    for part in left_out.split("|"):
        assert [path for path in routes if re.fullmatch(part, path)], part
    assert {"/api/ingest", "/audit", "/lag/stream", "/trace/{dataset}/{key}", "/topics/{topic}/messages"} == {
        path for path in routes if re.fullmatch(left_out, path)
    }


def test_nobody_logs_in_to_grafana_and_no_page_of_another_origin_reads_prometheus() -> None:
    grafana = SERVICES["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert grafana["GF_AUTH_BASIC_ENABLED"] == "false"
    assert grafana["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    options = dict(word.partition("=")[::2] for word in SERVICES["prometheus"]["command"])
    for origin in ("https://evil.example", "http://127.0.0.1:9090", "null"):
        assert not re.fullmatch(options["--web.cors.origin"], origin)
    assert not {"--web.enable-admin-api", "--web.enable-lifecycle"} & options.keys()


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
