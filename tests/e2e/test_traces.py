"""One record's trace, from who sends it to the cache that forgets it, across all processes, as a collector gets it."""

import hashlib
import hmac
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from runtime.settings import Settings
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan
from tests.processes import PROJECT, WORKERS, Pipeline, environment_of
from tests.waiting import eventually

SECRET = "a secret that only we know"
SOURCES = f"""
[sources.shop]
kind = "webhook"
dataset = "customers"
secret = "{SECRET}"

[sources.file]
kind = "csv"
dataset = "customers"
path = "customers.csv"
"""
ROWS = "customer_id,first_name,last_name,email\n" + "".join(f"F-{n},A,B,f{n}@example.org\n" for n in range(3))

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-1bf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

STAGES = {
    "normalizer customers.raw": "publish shop",
    "landing customers.raw": "publish shop",
    "postgres customers.clean": "normalizer customers.raw",
    "elasticsearch customers.changed": "postgres customers.clean",
    "redis customers.changed": "postgres customers.clean",
}
"""The span of each stage, and the one that it follows from."""


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def pipeline(
    collector: OtlpReceiver, shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    logs = tmp_path_factory.mktemp("pipeline")
    (logs / "sources.toml").write_text(SOURCES)
    (logs / "customers.csv").write_text(ROWS)
    running = Pipeline(shared_pipeline_settings, logs, (*WORKERS, "relay", "api"))
    for process in running.processes.values():
        process.environment |= tracing_to(collector) | {"SOURCES_FILE": str(logs / "sources.toml")}
    with running:
        yield running


def tracing_to(collector: OtlpReceiver) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


def post(pipeline: Pipeline, *customers: dict[str, str], trace: str | None = None) -> None:
    body = json.dumps(customers).encode()
    signature = f"sha256={hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()}"
    headers = {"X-Hub-Signature-256": signature} | ({"traceparent": trace} if trace else {})
    url = f"{pipeline['api'].url}/webhooks/shop"
    answer = httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False)
    assert answer.status_code == 202, answer.text


def customer(key: str) -> dict[str, str]:
    return {"customer_id": key, "first_name": "A", "last_name": "B", "email": f"{key}@example.org".lower()}


def stored(pipeline: Pipeline, key: str) -> None:
    eventually(
        lambda: pipeline["api"].get(f"/api/customers/{key}", timeout=30).is_success,
        what=f"{key} is stored",
    )


def named(settings: Settings, span: str) -> str:
    stage, _, topic = span.partition(" ")
    return f"{stage} {settings.named(topic)}" if "." in topic else span


def test_a_pushed_record_is_followed_to_the_cache_in_its_callers_trace(
    pipeline: Pipeline, collector: OtlpReceiver
) -> None:
    post(pipeline, customer("KEY1"), trace=CALLER)
    trace, caller = CALLER.split("-")[1:3]
    stages = {named(pipeline.settings, span): named(pipeline.settings, before) for span, before in STAGES.items()}

    def whole() -> dict[str, ReceivedSpan]:
        found = collector.of_trace(trace)
        assert stages.keys() <= found.keys()
        return found

    found = eventually(whole, what="every stage has sent its span")
    assert found.keys() == {*stages, "POST /webhooks/{source}", "publish shop"}
    request = found["POST /webhooks/{source}"]
    assert (request.parent, request.attributes["http.response.status_code"]) == (caller, 202)
    assert found["publish shop"].parent == request.id
    for span, before in stages.items():
        assert found[span].parent == found[before].id, span
        assert found[span].service == f"headrace-{'normalizer' if 'normal' in span else 'sink-' + span.split()[0]}"
    assert found[named(pipeline.settings, "normalizer customers.raw")].attributes["headrace.outcome"] == ["clean"]
    assert found[named(pipeline.settings, "postgres customers.clean")].attributes["headrace.outcome"] == ["inserted"]
    for span in stages:
        [batch] = [one for one in collector.spans if found[span].ids in one.links]
        assert batch.name == f"{span.split()[0]} batch"
        assert found[span].links == (batch.ids,)
    assert "KEY1" not in repr(collector.spans).upper()

    lines = pipeline["api"].logged("request")
    assert [line["path"] for line in lines if line.get("trace_id") == trace] == ["/webhooks/shop"]


def test_what_is_not_sampled_is_handed_on_and_leaves_no_span(pipeline: Pipeline, collector: OtlpReceiver) -> None:
    post(pipeline, customer("KEY2"), trace=UNSAMPLED)
    stored(pipeline, "KEY2")
    later = CALLER.replace("0af", "2af")
    post(pipeline, customer("KEY3"), trace=later)
    redis = named(pipeline.settings, "redis customers.changed")
    eventually(lambda: redis in collector.of_trace(later.split("-")[1]), what="a later record is through")
    assert collector.of_trace(UNSAMPLED.split("-")[1]) == {}


def test_a_user_is_followed_through_the_outbox(pipeline: Pipeline, collector: OtlpReceiver) -> None:
    trace = "3af7651916cd43dd8448eb211c80319c"
    answer = httpx.post(
        f"{pipeline['api'].url}/users/",
        json={"name": "Zoltan", "email": "zoltan@example.org", "role": "admin"},
        headers={"traceparent": CALLER.replace(CALLER.split("-")[1], trace)},
        timeout=30,
        trust_env=False,
    )
    assert answer.status_code == 201, answer.text
    names = [named(pipeline.settings, f"{stage} users.changed") for stage in ("relay", "elasticsearch", "redis")]

    def whole() -> dict[str, ReceivedSpan]:
        found = collector.of_trace(trace)
        assert found.keys() >= set(names)
        return found

    found = eventually(whole, what="every stage has sent its span")
    relay, elasticsearch, redis = (found[name] for name in names)
    assert relay.parent == found["POST /users/"].id
    assert elasticsearch.parent == redis.parent == relay.id
    assert "zoltan" not in repr(list(found.values())).lower(), "a name that is in no id, which are hexadecimal"


def test_a_runs_records_are_in_its_trace(pipeline: Pipeline, collector: OtlpReceiver) -> None:
    sources = pipeline["api"].environment["SOURCES_FILE"]
    environment = environment_of(pipeline.settings) | tracing_to(collector) | {"SOURCES_FILE": sources}
    command = [sys.executable, "-m", "cli", "publish", "file", "--wait"]
    done = subprocess.run(
        command, cwd=PROJECT, env=os.environ | environment, check=False, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    [run] = [span for span in collector.spans if span.name == "publish file"]
    assert (run.service, run.parent) == ("headrace-publish", "")
    redis = named(pipeline.settings, "redis customers.changed")

    def invalidated() -> bool:
        counts = [span.attributes["messaging.batch.message_count"] for span in collector.spans
                  if span.trace == run.trace and span.name == redis]  # fmt: skip
        return sum(map(int, map(str, counts))) == 3

    eventually(invalidated, what="the cache has forgotten all three in the run's trace")
