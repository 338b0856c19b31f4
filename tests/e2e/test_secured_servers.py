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
from confluent_kafka import KafkaException
from pydantic import SecretStr

from monitoring.lag import read_lag
from runtime.kafka.group_members import remove_members
from runtime.kafka.topic_admin import admin_client
from runtime.settings import Settings
from stores.postgres_engine import postgres_engine
from tests.processes import PROJECT, WORKERS, Pipeline, environment_of
from tests.servers.secured import PASSWORD, Secured, secured_servers
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
    secured.tokens.lifetime = 4
    with Pipeline(secured.by_token, tmp_path, ("api", *WORKERS)):
        for number in range(3):
            asked = len(secured.tokens.forms)
            record = json.dumps({**CUSTOMER, "customer_id": f"TOKEN{number}", "email": f"t{number}@example.org"})
            said = headrace(secured.by_token, "push", "customers", "-", "--wait", given=record)
            assert "1 stored (inserted 1), 0 failed" in said
            eventually(lambda: len(secured.tokens.forms) > asked + 10, what="tokens are replaced")  # noqa: B023
    assert {form["grant_type"] for form in secured.tokens.forms} == {"client_credentials"}


@pytest.mark.parametrize("change", [
    {"kafka_sasl_password": SecretStr("wrong")},
    {"kafka_sasl_username": "nobody"},
])  # fmt: skip
async def test_without_a_token_nobody_gets_in(secured: Secured, change: dict[str, Any]) -> None:
    others = without(secured.by_token, **change)
    with pytest.raises(Exception, match="invalid_client"):
        admin_client(others).list_topics(timeout=10)
    with pytest.raises(Exception, match="invalid_client"):
        await read_lag(others)


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
