"""Tokens for Kafka: got by the client's credentials, kept for most of their life, and no secret in what goes wrong."""

import base64
import sys
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from runtime.kafka.clients import aiokafka_connection, connection_config
from runtime.kafka.tokens import NoToken, client_credentials, msk_iam
from runtime.settings import Settings, load_settings
from tests.servers.token_endpoint import TokenEndpoint, serving

CLIENT, SECRET = "pipe:line", "s3cret/+ä"


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with serving(TokenEndpoint(CLIENT, SECRET)) as found:
        yield found


def settings(endpoint: TokenEndpoint, secret: str = SECRET) -> Settings:
    return load_settings(
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="OAUTHBEARER",
        kafka_sasl_username=CLIENT,
        kafka_sasl_password=secret,
        kafka_sasl_token_url=f"{endpoint.url}/token",
        kafka_sasl_scope="kafka.write",
    )


async def test_both_client_libraries_are_given_the_same_token(endpoint: TokenEndpoint) -> None:
    given = connection_config(settings(endpoint))
    assert (given["sasl.mechanism"], given.get("sasl.password")) == ("OAUTHBEARER", None)
    token, over = given["oauth_cb"]("")
    assert 3500 < over - time.time() <= 3600
    provider = aiokafka_connection(settings(endpoint))["sasl_oauth_token_provider"]
    assert await provider.token() == token
    assert endpoint.forms == [{"grant_type": "client_credentials", "scope": "kafka.write"}]


def test_a_token_is_replaced_before_it_is_over(endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    found = client_credentials(f"{endpoint.url}/token", CLIENT, SecretStr(SECRET), None, None)
    first, now = found.token(), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 0.7 * 3600)
    assert found.token() == first
    monkeypatch.setattr(time, "time", lambda: now + 0.9 * 3600)
    assert found.token() != first
    assert len(endpoint.forms) == 2


@pytest.mark.parametrize(("answer", "problem"), [
    ((401, b'{"error": "invalid_client"}'), "401, 'invalid_client'"),
    ((200, b"<html>"), "200, 'no access_token in its answer'"),
    ((200, b"[1]"), "no access_token"),
    ((200, b'{"access_token": 7}'), "no access_token"),
    ((200, b'{"access_token": "t", "expires_in": "soon"}'), "without saying how long: 'soon'"),
    ((200, b'{"access_token": "t", "expires_in": null}'), "without saying how long"),
    ((302, b""), "302"),
])  # fmt: skip
def test_an_endpoint_that_gives_none_is_named(endpoint: TokenEndpoint, answer: tuple[int, bytes], problem: str) -> None:
    endpoint.answer = answer
    with pytest.raises(NoToken) as refusal:
        connection_config(settings(endpoint))["oauth_cb"]("")
    assert endpoint.url in str(refusal.value)
    assert problem in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_an_endpoint_that_is_away_is_named() -> None:
    away = client_credentials("http://127.0.0.1:9/token", CLIENT, SecretStr(SECRET), None, None)
    with pytest.raises(NoToken, match=r"127\.0\.0\.1:9/token gives no token"):
        away.token()


def test_a_token_for_msk_is_an_address_that_awss_credentials_have_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline: no MSK was asked."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    given = connection_config(
        load_settings(kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="AWS_MSK_IAM", aws_region="eu-north-1")
    )
    assert given["sasl.mechanism"] == "OAUTHBEARER"
    token, over = given["oauth_cb"]("")
    address = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    assert address.netloc == "kafka.eu-north-1.amazonaws.com"
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert query["Action"] == "kafka-cluster:Connect"
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Credential"].startswith("AKIDEXAMPLE/")
    assert query["X-Amz-Credential"].endswith("/eu-north-1/kafka-cluster/aws4_request")
    assert query["X-Amz-SignedHeaders"] == "host"
    assert len(query["X-Amz-Signature"]) == 64
    assert 0 < over - time.time() <= int(query["X-Amz-Expires"])
    assert SECRET not in address.query


def test_without_its_package_msk_is_refused_with_the_name_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    msk_iam.cache_clear()
    with pytest.raises(NoToken, match=r"pip install 'headrace\[msk\]'"):
        msk_iam("eu-north-1")
