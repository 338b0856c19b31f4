"""Callers of real API processes have their limits, together and without Redis; HTTPS and proxies are as set."""

import hashlib
import hmac
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from playwright.sync_api import sync_playwright

from api.middleware import LONGEST_BODY
from api.request_counts import WINDOW_SECONDS
from runtime.probe import problem
from runtime.settings import Settings
from tests.browser import chromium
from tests.processes import PLAIN, Process
from tests.waiting import eventually


@contextmanager
def api_process(settings: Settings, folder: Path, **environment: str) -> Iterator[Process]:
    process = Process("api", settings, folder / "api.log")
    process.environment |= environment
    with process.running():
        yield process


def ask(process: Process, path: str = "/", headers: Mapping[str, str] = {}) -> httpx.Response:
    return process.get(path, headers=headers)


@pytest.mark.parametrize("redis", ["Redis", "none", "closed"])
def test_who_asks_too_often_is_told_when_to_come_again(migrated_settings: Settings, tmp_path: Path, redis: str) -> None:
    url = {"none": {"REDIS_URL": "none"}, "closed": {"REDIS_URL": "redis://127.0.0.1:1/0"}}.get(redis, {})
    with api_process(migrated_settings, tmp_path, API_READS_PER_MINUTE="5", **url) as api:
        answers = [ask(api) for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].headers["ratelimit-policy"] == f'"reads";q=5;w={WINDOW_SECONDS}'
        assert refused, "twelve requests take less than a minute, or this machine is of no use"
        assert refused[0].json()["type"] == "urn:headrace:problem:too-many-requests"
        assert 1 <= int(refused[0].headers["retry-after"]) <= 2 * WINDOW_SECONDS
        assert ask(api, "/api/health").is_success
        assert "ratelimit" not in ask(api, "/api/health").headers
        assert ask(api, "/search?q=a").status_code != 429  # which have a limit of their own


SECRETS = {"shop": "a secret that only we know", "other": "another secret, of theirs"}


def push(client: httpx.Client, body: bytes, source: str = "shop", secret: str | None = None) -> httpx.Response:
    digest = hmac.digest((secret or SECRETS[source]).encode(), body, hashlib.sha256).hex()
    return client.post(f"/webhooks/{source}", content=body, headers={"X-Hub-Signature-256": f"sha256={digest}"})


def test_who_has_not_the_secret_takes_nothing_from_the_senders_of_webhooks(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    """All come from one address, as they do behind a proxy that is not trusted."""
    sources = tmp_path / "sources.toml"
    block = '[sources.{}]\nkind = "webhook"\ndataset = "records"\nsecret = "{}"\nmap = {{ source_id = "id" }}\n'
    sources.write_text("".join(block.format(name, secret) for name, secret in SECRETS.items()))
    most = 8
    with (
        api_process(pipeline_settings, tmp_path, API_CHANGES_PER_MINUTE=str(most), SOURCES_FILE=str(sources)) as api,
        httpx.Client(base_url=api.url, timeout=60, trust_env=False) as client,
    ):

        def statuses(*answers: httpx.Response) -> set[int]:
            return {answer.status_code for answer in answers}

        small, long = b'{"id": 1}', b'{"id": 2, "x": "%s"}' % (b"x" * LONGEST_BODY)
        assert statuses(*(client.delete("/users/nobody@example.org") for _ in range(2 * most))) >= {429}
        forged = [push(client, small, secret="a secret that is none of it") for _ in range(2 * most)]
        made_up = [push(client, small, "other", secret="a secret that is none of it") for _ in range(most)]
        assert (forged[0].status_code, forged[-1].status_code) == (401, 429)
        assert forged[-1].json()["type"] == "urn:headrace:problem:too-many-requests"
        assert 1 <= int(forged[-1].headers["retry-after"]) <= 2 * WINDOW_SECONDS
        assert statuses(*made_up, client.post("/webhooks/nobody", content=small), push(client, long)) == {429}
        assert client.post("/webhooks/shop", content=iter([long])).status_code == 429  # of no length that it says
        genuine = [push(client, small) for _ in range(2 * most)]
        assert (genuine[0].status_code, genuine[-1].status_code) == (202, 429)
        assert genuine[0].headers["ratelimit-policy"] == f'"changes";q={most};w={WINDOW_SECONDS}'
        assert push(client, small, "other").status_code == 202


def test_processes_know_of_each_others_requests(migrated_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with (
        api_process(migrated_settings, tmp_path, API_READS_PER_MINUTE="200") as one,
        api_process(migrated_settings, tmp_path / "other", API_READS_PER_MINUTE="200") as other,
    ):
        with httpx.Client(base_url=one.url, timeout=60, trust_env=False, verify=PLAIN) as client:
            for _ in range(210):
                client.get("/")
        # It asks now and then, as it must to be looked up at all; alone it would not have come to its limit.
        asked = []

        def refused() -> bool:
            asked.append(ask(other).status_code)
            return asked[-1] == 429

        eventually(refused, what="the other process knows", within=60)
        assert len(asked) < 200


def test_who_a_proxy_speaks_for_counts_only_where_the_proxy_is_trusted(
    migrated_settings: Settings, tmp_path: Path
) -> None:
    def left(api: Process, address: str) -> str:
        answer = ask(api, headers={"X-Forwarded-For": address, "X-Forwarded-Proto": "https"})
        return f"{answer.headers['ratelimit'].split(';')[1]} {'strict-transport-security' in answer.headers}"

    with api_process(migrated_settings, tmp_path) as api:
        assert [left(api, f"203.0.113.{n}") for n in range(3)] == ["r=59999 False", "r=59998 False", "r=59997 False"]
    with api_process(migrated_settings, tmp_path, TRUSTED_PROXIES="10.0.0.0/8") as api:
        assert [left(api, f"203.0.113.{n}") for n in range(2)] == ["r=59999 False", "r=59998 False"]
    with api_process(migrated_settings, tmp_path, TRUSTED_PROXIES="10.0.0.0/8, 127.0.0.1") as api:
        assert [left(api, f"203.0.113.{n}") for n in range(2)] == ["r=59999 True", "r=59999 True"]
        # Only what the proxy itself has added counts, not what its client claims.
        assert left(api, "198.51.100.9, 203.0.113.0") == "r=59998 True"


def test_the_api_speaks_https_by_itself(migrated_settings: Settings, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    process = Process("api", migrated_settings, tmp_path / "api.log")
    process.environment |= {"API_TLS_CERTIFICATE_FILE": str(chain), "API_TLS_KEY_FILE": str(key)}
    process.start()
    try:
        url = process.url.replace("http:", "https:")
        with httpx.Client(base_url=url, verify=trusted, timeout=60, trust_env=False) as client:
            eventually(lambda: client.get("/livez").is_success, what="it answers over HTTPS", within=300)
            answer = client.get("/")
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert client.get("/openapi.json").is_success
        # As a container asks itself.
        assert problem({"API_PORT": process.environment["API_PORT"], "API_TLS_CERTIFICATE_FILE": str(chain)}) is None
        assert problem({"API_PORT": process.environment["API_PORT"]}) is not None
        with pytest.raises(httpx.HTTPError):
            ask(process)
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(url, timeout=60, trust_env=False)
    finally:
        assert process.stop() == 0


def test_the_pages_of_documentation_work_under_their_policy(migrated_settings: Settings, tmp_path: Path) -> None:
    with api_process(migrated_settings, tmp_path) as api, sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            told: list[str] = []
            page.on("console", lambda message: told.append(message.text))
            page.on("pageerror", lambda error: told.append(str(error)))
            page.goto(f"{api.url}/docs")
            page.get_by_text("Find records by words").first.click(timeout=60_000)
            page.get_by_role("button", name="Try it out").click(timeout=60_000)
            page.goto(f"{api.url}/redoc")
            page.get_by_role("heading", name="Headrace").first.wait_for(timeout=60_000)
            # ReDoc would like its maker's logo from its maker, and does without.
            assert [text for text in told if "Content Security Policy" in text and "cdn.redoc.ly" not in text] == []
            page.goto(f"{api.url}/docs")
            page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'evil = 1'}))")
            assert page.evaluate("typeof evil") == "undefined"
            assert any("Content Security Policy" in text for text in told)
        finally:
            browser.close()
