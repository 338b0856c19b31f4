"""Ways out that lead nowhere, a redirect's or certificates', fail the run with a reason, and nothing else."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from producers.http.fetch import Fetcher
from producers.rss.source import RssSource
from producers.source import SourceFailed
from producers.sources import build_source
from runtime.egress import Egress
from runtime.errors import SettingsError
from runtime.settings import Settings

URL = "http://feeds.example/x"


async def fetched(client: httpx.AsyncClient, url: str) -> Any:
    source = build_source("shop", {"kind": "rss", "dataset": "records", "url": URL, "retries": 0}, Settings(), Path())
    assert isinstance(source, RssSource)
    return await Fetcher("shop", client, source.block).get(url)


@pytest.mark.parametrize("location", ["http://xn--/x", "http://xn--a/", "http://[::1/x", "http://h:x/", "mailto:a@b"])
async def test_a_redirect_to_what_is_no_host_fails_the_run(location: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": location}))
    async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
        with pytest.raises(SourceFailed, match=f"shop: {URL}: "):
            await fetched(client, URL)


@pytest.mark.parametrize("proxy", [None, SecretStr("https://proxy:3128")])
def test_certificates_that_the_environment_names_and_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: SecretStr | None
) -> None:
    (tmp_path / "no-pem").write_text("no certificate")
    for file in (tmp_path / "gone", tmp_path / "no-pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        with pytest.raises(SettingsError, match=f"SSL_CERT_FILE='{file}' holds no certificates"):
            Egress(proxy=proxy).client(URL)


@pytest.mark.parametrize("host", ["198.51.100.1", "[2001:4860::1]"])
async def test_a_port_that_there_cannot_be_fails_the_run(host: str) -> None:
    async with Egress().client(URL) as client:
        with pytest.raises(SourceFailed, match="there is no port 99999"):
            await fetched(client, f"http://{host}:99999/x")
