"""An API that asks nobody who they are is started on loopback only."""

import pytest

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
    [ANYWHERE, "::", "[::]", "192.0.2.7", "2001:db8::1", "pipeline.example.org", "localhost.example.org", ""],
)
def test_an_open_api_starts_nowhere_else_and_says_what_to_set(address: str) -> None:
    with pytest.raises(StartRefused, match="API_ACCESS=keys"):
        check_exposure(Settings(api_access="open", api_bind=address))
    if address:
        with pytest.raises(StartRefused, match="API_PUBLISHED_ON="):
            check_exposure(Settings(api_access="open", api_bind="127.0.0.1", api_published_on=address))


def test_an_issuer_of_tokens_needs_the_packages_of_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        oidc_issuer="https://issuer.example.org", oidc_audience="headrace", oidc_jwks_url="https://issuer.example.org/k"
    )
    check_exposure(settings)  # no key is needed then, so Postgres is not asked
    monkeypatch.setattr(exposure, "find_spec", lambda package: None if package == "cryptography" else package)
    with pytest.raises(StartRefused, match=r"needs cryptography: pip install 'headrace\[oidc\]'"):
        check_exposure(settings)
