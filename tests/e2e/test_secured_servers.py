"""A pipeline on servers that speak TLS only and let nobody in without a name and a secret, or a certificate."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AclOperation, ResourcePatternType, ResourceType
from pydantic import SecretStr
from structlog.testing import capture_logs

from monitoring.lag import read_lag
from runtime.kafka.clients import connection_config, open_aiokafka
from runtime.kafka.group_members import remove_members
from runtime.kafka.tokens import NoToken
from runtime.kafka.topic_admin import admin_client
from runtime.settings import Settings
from schemas.topics import all_topics
from stores.postgres_engine import postgres_engine
from tests.processes import PROJECT, WORKERS, Pipeline, environment_of
from tests.servers.secured import NAMESPACE, PASSWORD, Right, Secured, let_in, secured_servers
from tests.waiting import eventually

CUSTOMER = {"customer_id": "ADA", "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.org"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("secured")
    home.chmod(0o711)  # root's servers run as another user, who has to pass through
    with secured_servers(home) as found:
        headrace(found.by_password, "setup")
        yield found


def headrace(settings: Settings, *words: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=PROJECT,
        env=os.environ | environment_of(settings),
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**settings.model_dump(), **changes})


def test_a_record_takes_its_whole_way(secured: Secured, tmp_path: Path) -> None:
    settings = secured.by_password
    with Pipeline(settings, tmp_path, ("api", "relay", *WORKERS)) as pipeline:
        said = headrace(settings, "push", "customers", "-", "--wait", given=json.dumps(CUSTOMER))
        assert "1 stored (inserted 1), 0 failed" in said
        with httpx.Client(base_url=pipeline["api"].url, trust_env=False, timeout=20.0) as api:
            for _ in range(2):  # from Postgres, then from the cache
                assert api.get("/api/customers/ADA").json()["last_name"] == "Lovelace"
            eventually(lambda: found(api)["total"] == 1, what="it is found in Elasticsearch")
            assert not found(api)["degraded"]
            health = api.get("/api/health").json()
            assert health["status"] == "healthy", health
            assert api.get("/lag").is_success
        assert "all accounted for" in headrace(settings, "audit", "--wait", "30")
        assert json.loads(headrace(settings, "lag", "--json"))


def found(api: httpx.Client) -> Any:
    return api.get("/search", params={"q": "lovelace", "dataset": "customers"}).json()


async def test_a_certificate_is_as_good_as_a_password(secured: Secured) -> None:
    rows = await read_lag(secured.by_certificate)
    assert {row.group for row in rows}
    await remove_members(secured.by_certificate, "normalizer", ["nobody"])


@pytest.mark.parametrize("change", [
    {"kafka_sasl_password": SecretStr("wrong")},
    {"kafka_ssl_ca_file": None},
    {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_ca_file": None},
])  # fmt: skip
def test_kafka_lets_nobody_in_otherwise(secured: Secured, change: dict[str, Any]) -> None:
    admin = admin_client(without(secured.by_password, **change))
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=3)


def test_plain_is_a_mechanism_too(secured: Secured) -> None:
    plain = without(secured.by_password, kafka_sasl_mechanism="PLAIN")
    assert admin_client(plain).list_topics(timeout=30).topics


def test_a_record_takes_its_whole_way_by_tokens_that_are_replaced(secured: Secured, tmp_path: Path) -> None:
    """Their life is shorter than the test, so whoever kept one would be shut out: librdkafka and aiokafka alike."""
    secured.tokens.lifetime = 30
    roles = ("api", *WORKERS)
    with Pipeline(secured.by_token, tmp_path, roles):
        for number in range(2):
            asked = len(secured.tokens.forms)
            record = json.dumps({**CUSTOMER, "customer_id": f"TOKEN{number}", "email": f"t{number}@example.org"})
            said = headrace(secured.by_token, "push", "customers", "-", "--wait", given=record)
            assert "1 stored (inserted 1), 0 failed" in said
            eventually(
                lambda: len(secured.tokens.forms) > asked + len(roles),  # noqa: B023
                what="every process has got another token",
                within=120,
            )
    assert {form["grant_type"] for form in secured.tokens.forms} == {"client_credentials"}


@pytest.mark.parametrize("change", [
    {"kafka_sasl_password": SecretStr("wrong")},
    {"kafka_sasl_username": "nobody"},
])  # fmt: skip
async def test_without_a_token_nobody_gets_in(secured: Secured, change: dict[str, Any]) -> None:
    others = without(secured.by_token, **change)
    with capture_logs() as logs, pytest.raises(KafkaException, match="token"):
        admin_client(others).list_topics(timeout=10)
    assert "invalid_client" in logs[0]["reason"]
    with pytest.raises(NoToken, match="invalid_client"):
        await open_aiokafka(others)


TOPICS = [topic.name for topic in all_topics()]


def documented_rights() -> dict[str, list[Right]]:
    """By role, the rows of the table in docs/security.md."""
    found: dict[str, list[Right]] = {}
    table = (PROJECT / "docs/security.md").read_text().partition("| role | Read | Write | all groups |")[2]
    exactly, begins = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    for row in table.partition("\n\n")[0].splitlines()[2:]:
        role, read, write, groups = (cell.strip() for cell in row.strip("|").split("|"))
        rights = [(ResourceType.TOPIC, f"{NAMESPACE}.", begins, AclOperation.DESCRIBE)]
        rights += [(ResourceType.GROUP, f"{NAMESPACE}.{role}", exactly, AclOperation.READ)]
        rights += [(ResourceType.GROUP, "*", exactly, AclOperation.DESCRIBE)] if groups == "Describe" else []
        for cell, operation in ((read, AclOperation.READ), (write, AclOperation.WRITE)):
            kinds = tuple(kind for kind in cell.split(", ") if kind)
            topics = [f"{NAMESPACE}.{topic}" for topic in TOPICS if kinds and topic.endswith(kinds)]
            rights += [(ResourceType.TOPIC, topic, exactly, operation) for topic in topics]
        found[role] = rights
    return found


def test_each_role_does_its_work_with_the_rights_that_are_documented(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({**CUSTOMER, "customer_id": "ROLE1", "email": "r1@example.org"}))
    (tmp_path / "sources.toml").write_text(
        '[sources.rows]\nkind = "jsonl"\npath = "rows.jsonl"\ndataset = "customers"\ninterval_seconds = 1\n'
    )
    rights = documented_rights()
    for role, given in rights.items():
        let_in(secured.kafka, role, given)
    pipeline = Pipeline(secured.by_password, tmp_path, ("api", "relay", "monitor", "scheduler", *WORKERS))
    for role, process in pipeline.processes.items():
        process.environment["KAFKA_SASL_USERNAME"] = role.replace(" ", "-")
        process.environment["SOURCES_FILE"] = f"{tmp_path}/sources.toml"
    assert {role.replace(" ", "-") for role in pipeline.processes} == set(rights)
    as_api = without(secured.by_password, kafka_sasl_username="api")
    with pipeline, httpx.Client(base_url=pipeline["api"].url, trust_env=False, timeout=30.0) as api:
        headrace(as_api, "push", "customers", "-", given=json.dumps({"customer_id": "ROLE2", "first_name": "Only"}))
        eventually(lambda: "ROLE2" in api.get("/failures/items").text, what="the failure is stored", within=120)
        assert api.post("/users/", json={"name": "Role Three", "email": "r3@example.org", "role": "admin"}).is_success
        for query, dataset in (("lovelace", "customers"), ("role three", "users")):
            eventually(lambda: searched(api, query, dataset), what=f"{query} is found", within=120)  # noqa: B023
        assert api.get("/api/customers/ROLE1").is_success
        for path in ("/lag", "/overview", "/topics", "/trace/customers/ROLE1", "/topics/failures/messages"):
            assert api.get(path).is_success, path
        assert "all accounted for" in headrace(as_api, "audit", "--wait", "60")
    assert not refused(tmp_path)


def refused(logs: Path) -> list[str]:
    """Lines of the processes' logs that tell of a right that one lacks."""
    return [line for log in logs.glob("*.log") for line in log.read_text().splitlines() if "uthoriz" in line]


def searched(api: httpx.Client, query: str, dataset: str) -> bool:
    answer = api.get("/search", params={"q": query, "dataset": dataset}).json()
    return bool(answer["total"]) and not answer["degraded"]


@pytest.mark.parametrize(("role", "topic"), [("sink-landing", "customers.raw"), ("sink-redis", "customers.clean")])
def test_a_role_may_do_nothing_else(secured: Secured, role: str, topic: str) -> None:
    let_in(secured.kafka, role, documented_rights()[role])
    reports: list[KafkaError | None] = []
    producer = Producer(connection_config(without(secured.by_password, kafka_sasl_username=role)))
    producer.produce(f"{NAMESPACE}.{topic}", b"forged", on_delivery=lambda error, _: reports.append(error))
    producer.flush(60)
    assert [error and error.code() for error in reports] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


def test_the_rights_reach_no_further_than_the_namespace(secured: Secured) -> None:
    others = without(secured.by_password, headrace_namespace="elsewhere")
    done = subprocess.run(
        [sys.executable, "-m", "cli", "setup"],
        cwd=PROJECT,
        env=os.environ | environment_of(others),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "authorization failed" in done.stderr.lower()
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(("options", "problem"), [
    ("sslmode=disable", "no encryption"),
    ("sslmode=verify-full", "root.crt"),
])  # fmt: skip
async def test_postgres_is_asked_as_the_url_says(secured: Secured, options: str, problem: str) -> None:
    url = secured.by_password.plain_database_url.partition("?")[0]
    engine = postgres_engine(without(secured.by_password, database_url=SecretStr(f"{url}?{options}")))
    with pytest.raises(Exception, match=problem):
        async with engine.connect():
            pass
    await engine.dispose()
