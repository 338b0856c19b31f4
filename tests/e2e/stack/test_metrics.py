"""Every process of a running stack says what it counts, in a form that Prometheus takes; and no log says who is who."""

import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client import parser as text
from prometheus_client.openmetrics import parser as openmetrics

from local_stack.programs import Instance, role_instances
from local_stack.state_folder import StateFolder
from runtime.metrics import METRICS
from tests.e2e.command_line import CommandLine
from tests.waiting import eventually

OURS = ("headrace_", "kafka_")
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def instances(headrace: CommandLine) -> list[Instance]:
    """Every process of the pipeline: neither the mock server nor the dashboard, which shows what the API says."""
    found = role_instances(StateFolder.at(headrace.home).read_record())
    return [one for one in found if one.role.name not in ("mock-server", "dashboard")]


def scraped(instance: Instance, accept: str = "text/plain") -> httpx.Response:
    url = f"http://127.0.0.1:{instance.port}/metrics"
    return httpx.get(url, headers={"Accept": accept}, timeout=10, trust_env=False).raise_for_status()


def families(instance: Instance) -> list[Metric]:
    return list(text.text_string_to_metric_families(scraped(instance).text))


def samples(headrace: CommandLine, role: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Values by labels, summed over the processes of a role."""
    found: dict[tuple[tuple[str, str], ...], float] = {}
    for instance in instances(headrace):
        if instance.role.name == role:
            for family in families(instance):
                for sample in family.samples:
                    if sample.name == name:
                        labels = tuple(sorted(sample.labels.items()))
                        found[labels] = found.get(labels, 0.0) + sample.value
    return found


def test_each_process_exposes_the_metrics_that_name_its_role_and_no_other(headrace: CommandLine) -> None:
    roles = {role for one in METRICS for role in one.roles}
    there = instances(headrace)
    assert roles <= {instance.role.name for instance in there}
    for instance in there:
        declared = {one.name: one for one in METRICS if instance.role.name in one.roles}
        plain = {one.name: one for one in families(instance)}
        answer = scraped(instance, OPENMETRICS)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        strict = {one.name: one for one in openmetrics.text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
        for found in (plain, strict):
            assert {name for name in found if name.startswith(OURS)} == declared.keys(), instance.name
            for name, one in declared.items():
                assert (found[name].type, found[name].documentation) == (one.kind, one.meaning)
                for sample in found[name].samples:
                    assert sample.name in one.samples
                    assert sample.labels.keys() - {"le"} == set(one.labels)
            assert "process_cpu_seconds" in found


@pytest.fixture
def marked(headrace: CommandLine, tmp_path: Path) -> dict[str, str]:
    """A customer whose every word is found again, wherever it is written; two claim the address, one record is bad."""
    mark, key = uuid.uuid4().hex[:10], uuid.uuid4().hex[:10]
    words = {
        "first_name": f"First{mark}",
        "last_name": f"Last{mark}",
        "email": f"mail{mark}@example.org",
        "address": f"Street{mark}",
    }
    lines = [
        {"customer_id": f"C1-{key}", **words},
        {"customer_id": f"C2-{key}", **words},
        {"customer_id": f"C3-{key}", **words, "email": f"no address {words['email']}"},
    ]
    file = tmp_path / "marked.jsonl"
    for part in (lines[:1], lines[1:]):  # whose is first gets the address, and partitions are not in step
        file.write_text("".join(json.dumps(line) + "\n" for line in part))
        headrace("push", "customers", str(file), "--wait", expect=None)
    return words | {"mark": mark, "customer_id": f"C1-{key}"}


def test_a_record_is_counted_by_each_stage_that_it_passes_and_no_log_says_whose_it_is(
    headrace: CommandLine, marked: dict[str, str]
) -> None:
    mark = marked["mark"]
    api = headrace.settings().api_url
    key = marked["customer_id"]
    with httpx.Client(base_url=api, trust_env=False, timeout=10) as client:
        user = {"email": f"user{mark}@example.org", "name": f"User{mark}", "role": "visitor"}
        client.post("/users/", json=user)
        eventually(lambda: client.get(f"/api/customers/{key}").is_success, what="it is served")
        assert client.get(f"/api/customers/{key}").headers["X-Cache"] == "hit"
        assert client.get(f"/users/{user['email']}").status_code in {200, 404}
        client.get("/search", params={"q": marked["last_name"]})
        client.get("/nowhere/" + marked["email"])

    def of(role: str, name: str, **labels: str) -> float:
        found = samples(headrace, role, name)
        return sum(value for given, value in found.items() if set(labels.items()) <= set(given))

    assert of("normalizer", "headrace_normalizer_records_total", dataset="customers", outcome="clean") >= 2
    assert of("normalizer", "headrace_normalizer_failures_total", dataset="customers") >= 1
    assert of("normalizer", "headrace_normalizer_batch_seconds_count", dataset="customers") >= 1
    assert of("sink-postgres", "headrace_sink_outcomes_total", outcome="inserted") >= 1
    assert of("sink-postgres", "headrace_dead_letters_total", dataset="customers", stage="normalizer") >= 1
    assert of("sink-postgres", "headrace_dead_letters_total", dataset="customers", stage="postgres") >= 1
    # The second has claimed the first one's address, but it has arrived all the same.
    records = of("sink-postgres", "headrace_record_seconds_count", dataset="customers")
    assert records >= 2
    assert 0 < of("sink-postgres", "headrace_record_seconds_sum", dataset="customers") < 600 * records
    for role in ("sink-landing", "sink-elasticsearch", "sink-redis", "relay"):
        eventually(lambda role=role: of(role, "headrace_sink_batch_records_count") > 0, what=f"{role} has a batch")  # type: ignore[misc]
    assert of("relay", "headrace_outbox_seconds_count") >= 1
    assert of("api", "headrace_cache_reads_total", dataset="customers", use="hit") >= 1
    assert of("api", "headrace_cache_fills_total", dataset="customers", outcome="taken") >= 1
    assert of("api", "headrace_searches_total") >= 1
    route = {"method": "GET", "route": "/api/customers/{key}"}
    assert of("api", "headrace_http_requests_total", **route, status="200") >= 2, "cached reads are counted too"
    assert of("api", "headrace_http_request_seconds_count", **route) >= 2
    assert of("api", "headrace_http_requests_total", method="POST", route="/users/") >= 1
    assert of("api", "headrace_http_requests_total", route="(none)", status="404") >= 1
    assert of("normalizer", "headrace_healthy") == 1

    for instance in instances(headrace):
        for family in families(instance):
            for sample in family.samples:
                assert not any(mark in value for value in sample.labels.values()), sample
    told = {
        f"{log.name}: {line}"
        for log in StateFolder.at(headrace.home).logs.glob("*.log*")
        for line in log.read_text(errors="replace").splitlines()
        if mark in line and is_of_ours(line)
    }
    assert not told


def is_of_ours(line: str) -> bool:
    """Lines of our processes are JSON; servers that are asked to may show the statements that they refuse."""
    try:
        found: Any = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict)
