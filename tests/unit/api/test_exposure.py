"""An API that asks nobody who they are is started on loopback only."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from api import exposure
from api.exposure import StartRefused, check_exposure, is_loopback
from runtime.settings import Settings

ANYWHERE = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "localhost", "::1", "[::1]"])
def test_an_open_api_starts_on_loopback(address: str) -> None:
    assert is_loopback(address)
    check_exposure(Settings(api_access="open", api_bind=address))
    check_exposure(Settings(api_access="open", api_bind=ANYWHERE, api_published_on=address))


@pytest.mark.parametrize(
    "address",
    [ANYWHERE, "::", "[::]", "192.0.2.7", "2001:db8::1", "pipeline.example.org", "localhost.example.org"],
)
def test_an_open_api_starts_nowhere_else_and_says_what_to_set(address: str) -> None:
    with pytest.raises(StartRefused, match="API_ACCESS=keys"):
        check_exposure(Settings(api_access="open", api_bind=address))
    with pytest.raises(StartRefused, match="API_PUBLISHED_ON="):
        check_exposure(Settings(api_access="open", api_bind="127.0.0.1", api_published_on=address))


@pytest.mark.parametrize("wrong", ["no PEM", "no key", "another key", "a key with a password"])
def test_a_certificate_that_does_not_serve_is_told_by_its_setting(wrong: str, tmp_path: Path) -> None:
    pair, other = (trustme.CA().issue_cert("api.example.org") for _ in range(2))
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    pair.cert_chain_pems[0].write_to_path(certificate)
    (other if wrong == "another key" else pair).private_key_pem.write_to_path(key)
    if wrong == "no PEM":
        certificate.write_text("no certificate")
    if wrong == "a key with a password":
        kept = load_pem_private_key(key.read_bytes(), None)
        locked = BestAvailableEncryption(b"pass-word")
        key.write_bytes(kept.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    settings = Settings(
        api_access="open", api_tls_certificate_file=certificate, api_tls_key_file=None if wrong == "no key" else key
    )
    with pytest.raises(StartRefused, match=r"API_TLS_CERTIFICATE_FILE=.*API_TLS_KEY_FILE.*: expected a certificate"):
        check_exposure(settings)


def test_a_certificate_and_its_key_serve_in_two_files_or_one(tmp_path: Path) -> None:
    pair = trustme.CA().issue_cert("api.example.org")
    certificate, key, both = tmp_path / "certificate.pem", tmp_path / "key.pem", tmp_path / "both.pem"
    pair.cert_chain_pems[0].write_to_path(certificate)
    pair.private_key_pem.write_to_path(key)
    pair.private_key_and_cert_chain_pem.write_to_path(both)
    check_exposure(Settings(api_access="open", api_tls_certificate_file=certificate, api_tls_key_file=key))
    check_exposure(Settings(api_access="open", api_tls_certificate_file=both))


def test_an_issuer_of_tokens_needs_the_packages_of_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        oidc_issuer="https://issuer.example.org", oidc_audience="headrace", oidc_jwks_url="https://issuer.example.org/k"
    )
    check_exposure(settings)  # no key is needed then, so Postgres is not asked
    monkeypatch.setattr(exposure, "find_spec", lambda package: None if package == "cryptography" else package)
    with pytest.raises(StartRefused, match=r"needs cryptography: pip install 'headrace\[oidc\]'"):
        check_exposure(settings)
