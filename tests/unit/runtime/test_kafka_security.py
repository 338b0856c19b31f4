"""TLS and authentication to Kafka: one form of settings for both client libraries."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from runtime.errors import SettingsError
from runtime.kafka.clients import aiokafka_connection, connection_config
from runtime.settings import KAFKA_SECURITY, Settings, load_settings
from tests.processes import PROJECT

BY_PASSWORD: dict[str, Any] = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_sasl_username": "ada",
    "kafka_sasl_password": "pass-word",
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


def test_without_settings_nothing_is_encrypted_and_nobody_asked() -> None:
    assert connection_config(load_settings())["security.protocol"] == "PLAINTEXT"
    assert aiokafka_connection(load_settings())["security_protocol"] == "PLAINTEXT"


def test_both_libraries_are_told_the_same(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    settings = load_settings(**BY_PASSWORD, kafka_ssl_ca_file=authority)
    told = connection_config(settings)
    assert (told["sasl.mechanism"], told["sasl.username"], told["sasl.password"]) == (
        "SCRAM-SHA-512",
        "ada",
        "pass-word",
    )
    assert told["ssl.ca.location"] == str(authority)
    given = aiokafka_connection(settings)
    assert (given["sasl_mechanism"], given["sasl_plain_username"], given["sasl_plain_password"]) == (
        "SCRAM-SHA-512",
        "ada",
        "pass-word",
    )
    context = given["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(("variables", "message"), [
    ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SECURITY_PROTOCOL SASL_SSL needs KAFKA_SASL_MECHANISM"),
    ({"KAFKA_SASL_USERNAME": "ada"}, "KAFKA_SASL_USERNAME is for SASL; set KAFKA_SECURITY_PROTOCOL to SASL_SSL"),
    ({"KAFKA_SSL_CA_FILE": "ca.pem"}, "KAFKA_SSL_CA_FILE is for TLS; set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL"),
    ({"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_KEY_FILE": "ca.pem"},
     "KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE belong together"),
    ({"KAFKA_SSL_KEY_PASSWORD": "pass-word"}, "KAFKA_SSL_KEY_PASSWORD is for a key: set KAFKA_SSL_KEY_FILE"),
    ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "plain", "KAFKA_SASL_USERNAME": "ada"},
     "KAFKA_SECURITY_PROTOCOL SASL_SSL needs KAFKA_SASL_PASSWORD for PLAIN"),
    ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_SASL_USERNAME": "ada",
      "KAFKA_SASL_PASSWORD": "pass-word"},
     "KAFKA_SECURITY_PROTOCOL SASL_SSL needs KAFKA_SASL_TOKEN_URL for OAUTHBEARER"),
    ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"},
     "KAFKA_SECURITY_PROTOCOL SASL_SSL needs AWS_REGION for AWS_MSK_IAM"),
    ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "ada",
      "KAFKA_SASL_PASSWORD": "pass-word", "KAFKA_SASL_SCOPE": "x"},
     "KAFKA_SASL_SCOPE is not for KAFKA_SASL_MECHANISM PLAIN"),
    ({"KAFKA_SASL_TOKEN_URL": "https://login/token"}, "KAFKA_SASL_TOKEN_URL is for SASL; set KAFKA_SECURITY_PROTOCOL"),
    ({"KAFKA_SASL_TOKEN_URL": "login/token"}, "KAFKA_SASL_TOKEN_URL='login/token': expected an address"),
    ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL='TLS'"),
    ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_FILE": "gone.pem"}, "KAFKA_SSL_CA_FILE='gone.pem'"),
])  # fmt: skip
def test_what_does_not_fit_together_is_refused_by_the_names_of_the_variables(
    variables: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert message in str(refusal.value)


@pytest.mark.parametrize("variable", ["KAFKA_SSL_CA_FILE", "ELASTICSEARCH_CA_FILE"])
def test_certificates_to_trust_that_are_none_are_told_by_their_setting(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    for wrong in ("ca.pem", "gone.pem", ".", "x" * 300):
        monkeypatch.setenv(variable, wrong)
        with pytest.raises(SettingsError, match=f"{variable}='{wrong}': expected a file of certificates in PEM"):
            load_settings()


def test_a_certificate_for_kafka_with_the_key_of_another_is_refused(tmp_path: Path) -> None:
    pair, other = (trustme.CA().issue_cert("ada@example.org") for _ in range(2))
    files: dict[str, Any] = {"kafka_ssl_certificate_file": tmp_path / "own.pem", "kafka_ssl_key_file": tmp_path / "key"}
    pair.cert_chain_pems[0].write_to_path(files["kafka_ssl_certificate_file"])
    pair.private_key_pem.write_to_path(files["kafka_ssl_key_file"])
    load_settings(kafka_security_protocol="SSL", **files)
    other.private_key_pem.write_to_path(files["kafka_ssl_key_file"])
    with pytest.raises(SettingsError, match=r"KAFKA_SSL_CERTIFICATE_FILE=.*own.pem, KAFKA_SSL_KEY_FILE=.*: expected"):
        load_settings(kafka_security_protocol="SSL", **files)


def test_no_password_is_shown_where_settings_are() -> None:
    assert "pass-word" not in repr(load_settings(**BY_PASSWORD))


def test_every_client_is_made_of_this_configuration() -> None:
    """Another one would not get into a secured cluster."""
    made_here = {"runtime/kafka/clients.py", "producers/kafka/source.py", "local_stack/kafka.py"}
    reading = {"producers/kafka/reading.py"}
    packages = ("api", "commands", "monitoring", "producers", "runtime", "services", "sinks", "stores", "local_stack")
    found = {
        str(file.relative_to(PROJECT))
        for package in packages
        for file in (PROJECT / package).rglob("*.py")
        if '"bootstrap.servers"' in (text := file.read_text()) or "bootstrap_servers=settings" in text
    }
    assert found - reading == made_here


def test_each_part_of_it_has_a_setting() -> None:
    assert set(KAFKA_SECURITY.values()) <= Settings.model_fields.keys()
