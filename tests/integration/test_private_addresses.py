"""No source and no alarm reaches into a private network unless PRIVATE_HOSTS says so, by whichever way."""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from pydantic import SecretStr

from monitoring.alarm_file import Target
from producers.source import SourceFailed, SourceRecord
from producers.sources import build_source
from runtime.egress import Egress
from runtime.errors import SettingsError
from runtime.settings import Settings
from services.alarms.telling import open_client, send, trial_event
from tests.integration.publish_servers import Answer, Request, http_server
from tests.integration.test_http_bounds import KINDS

SECRET = b"n;name\n1;the inner secret\n"
Asked = list[Request]


async def read(kind: str, url: str, allowed: str, **settings: object) -> list[SourceRecord]:
    block = {"kind": kind, "dataset": "records", "retries": 0, **KINDS[kind][0]}
    block["path" if kind == "csv" else "url"] = url
    source = build_source("shop", block, Settings(private_hosts=allowed, **settings), Path())  # type: ignore[arg-type]
    return [record async for batch in source.batches() for record in batch.records]


@contextmanager
def inner(body: bytes = SECRET, status: int = 200) -> Iterator[tuple[str, Asked]]:
    """A server that only this machine can reach."""
    asked: Asked = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        return Answer(status, body)

    with http_server(answer) as url:
        yield url, asked


def moved_to(url: str, **headers: str) -> Callable[[Request], Answer]:
    return lambda _: Answer(302, b"", {"Location": url, **headers})


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Sequence[Sequence[str]]]:
    """Addresses by name: those of its first resolution, of its second … The last holds from then on."""
    known: dict[str, Sequence[Sequence[str]]] = {}
    answers: dict[str, Iterator[Sequence[str]]] = {}
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: object, **options: object) -> object:
        if host not in known:
            return real(host, port, *args, **options)  # type: ignore[arg-type]
        mine = answers.setdefault(host, chain(known[host], repeat(known[host][-1])))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(mine)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


@pytest.mark.parametrize("kind", KINDS)
async def test_a_source_at_a_private_address_is_refused_unless_allowed(kind: str) -> None:
    with inner(KINDS[kind][1]) as (url, asked):
        with pytest.raises(SourceFailed, match=r"127\.0\.0\.1 is a loopback address.*PRIVATE_HOSTS") as failure:
            await read(kind, url, "")
        assert (failure.value.source, asked) == ("shop", [])
        assert url in failure.value.reason
        for allowed in ("declared", "127.0.0.0/8", urlsplit(url).netloc):
            assert await read(kind, url, allowed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0"])  # noqa: S104
async def test_a_redirect_into_a_private_address_is_refused_however_it_is_written(kind: str, host: str) -> None:
    with inner() as (url, asked):
        target = f"http://{host}:{urlsplit(url).port}/"
        with (
            http_server(moved_to(target)) as declared,
            pytest.raises(SourceFailed, match="which PRIVATE_HOSTS does not allow") as failure,
        ):
            await read(kind, declared, "declared")
    assert not asked
    assert "inner secret" not in str(failure.value)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_redirect_within_the_source_or_to_what_is_listed_is_followed(kind: str) -> None:
    body = KINDS[kind][1]
    with inner(body) as (url, asked), http_server(moved_to(url)) as declared:
        assert await read(kind, declared, f"declared, {urlsplit(url).netloc}")
    assert len(asked) == 1

    def within(request: Request) -> Answer:
        return Answer(200, body) if request.path == "/new" else Answer(301, b"", {"Location": "/new"})

    with http_server(within) as declared:
        assert await read(kind, declared, "declared")


async def test_a_name_that_resolves_to_a_private_address_is_refused(names: dict[str, Sequence[Sequence[str]]]) -> None:
    names["feeds.example.org"] = [["127.0.0.1"]]
    with inner() as (url, asked):
        port = urlsplit(url).port
        with pytest.raises(SourceFailed, match=r"feeds\.example\.org is at 127\.0\.0\.1"):
            await read("csv", f"http://feeds.example.org:{port}/", "declared")
        assert not asked
        assert await read("csv", f"http://feeds.example.org:{port}/", "feeds.example.org")


async def test_a_name_that_changes_between_check_and_connection_changes_nothing(
    names: dict[str, Sequence[Sequence[str]]],
) -> None:
    names["feeds.example.org"] = [["127.0.0.1"], ["127.0.0.2"]]
    with inner(b"n;name\n1;Bread\n") as (url, asked):
        port = urlsplit(url).port or 0
        other: Asked = []
        with http_server(lambda request: other.append(request) or Answer(200, SECRET), port, "127.0.0.2"):  # type: ignore[func-returns-value]
            [record] = await read("csv", f"http://feeds.example.org:{port}/", "127.0.0.1")
    assert b"Bread" in (record.value or b"")
    assert (len(asked), other) == (1, [])


async def test_of_several_addresses_only_those_that_are_allowed_are_tried(
    names: dict[str, Sequence[Sequence[str]]],
) -> None:
    names["feeds.example.org"] = [["10.0.0.1", "127.0.0.3", "127.0.0.1"]]
    with inner() as (url, _):  # nobody listens on 127.0.0.3
        address = f"http://feeds.example.org:{urlsplit(url).port}/"
        assert await read("csv", address, "127.0.0.0/8", timeout_seconds=60)


async def test_no_secret_of_a_source_goes_along_a_redirect_to_another_place() -> None:
    hops: Asked = []

    def second(request: Request) -> Answer:
        hops.append(request)
        return Answer(200, SECRET) if request.path == "/end" else Answer(302, b"", {"Location": "/end"})

    first: Asked = []

    def declared(request: Request) -> Answer:
        first.append(request)
        if request.path == "/here":
            return Answer(302, b"", {"Location": other})
        return Answer(302, b"", {"Location": "/here", "Set-Cookie": "session=s3cret; Path=/"})

    with http_server(second) as other, http_server(declared) as url:
        await read("csv", url.replace("//", "//me:pass-word@"), "127.0.0.1")
    assert first[1].headers["cookie"] == "session=s3cret"
    assert first[1].headers["authorization"].startswith("Basic ")
    assert len(hops) == 2
    assert not any({"cookie", "authorization"} & request.headers.keys() for request in hops)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's for feeds.example.org, which our clients trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("feeds.example.org").configure_cert(context)
    return context


async def test_tls_and_the_host_header_go_by_the_name(
    names: dict[str, Sequence[Sequence[str]]], tls: ssl.SSLContext
) -> None:
    named: list[str | None] = []
    hosts: list[str] = []
    tls.sni_callback = lambda _, name, __: named.append(name)

    def answer(request: Request) -> Answer:
        hosts.append(request.headers["host"])
        return Answer(200, SECRET)

    with http_server(answer, tls=tls) as url:
        port = urlsplit(url).port
        for name in ("feeds.example.org", "other.example.org"):
            names[name] = [["127.0.0.1"]]
        assert await read("csv", f"https://feeds.example.org:{port}/", "127.0.0.1")
        with pytest.raises(SourceFailed, match="certificate"):
            await read("csv", f"https://other.example.org:{port}/", "127.0.0.1")
    assert named == ["feeds.example.org", "other.example.org"]
    assert hosts == [f"feeds.example.org:{port}"]


async def test_a_redirect_from_https_to_http_is_refused(
    names: dict[str, Sequence[Sequence[str]]], tls: ssl.SSLContext
) -> None:
    names["feeds.example.org"] = [["127.0.0.1"]]
    with inner() as (url, asked), http_server(moved_to(url), tls=tls) as declared:
        port = urlsplit(declared).port
        with pytest.raises(SourceFailed, match="redirects from https to http"):
            await read("csv", f"https://feeds.example.org:{port}/", "127.0.0.1")
    assert not asked


async def test_what_another_place_answers_to_a_redirect_is_not_shown() -> None:
    with inner(b"the inner secret", 404) as (url, _):
        with http_server(moved_to(url)) as declared, pytest.raises(SourceFailed, match="404 Not Found") as failure:
            await read("csv", declared, "127.0.0.1")
        assert "inner secret" not in str(failure.value)
        with pytest.raises(SourceFailed, match="the inner secret"):
            await read("csv", url, "127.0.0.1")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_no_way_round(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with inner() as (proxy, asked), inner() as (url, _):
        monkeypatch.setenv(variable, proxy)
        with pytest.raises(SourceFailed, match="PRIVATE_HOSTS"):
            await read("csv", url, "")
        assert await read("csv", url, "declared")
    assert not asked


async def test_a_proxy_that_is_set_for_it_is_asked_for_everything() -> None:
    with inner() as (proxy, asked):
        assert await read("csv", "http://feeds.invalid/prices.csv", "", egress_proxy=SecretStr(proxy))
    assert [request.headers["host"] for request in asked] == ["feeds.invalid"]


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:3128", "https://127.0.0.1:3128"])
@pytest.mark.usefixtures("tls")
async def test_whom_to_trust_is_the_same_through_a_proxy(proxy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    way_out = Egress(proxy=proxy and SecretStr(proxy))  # type: ignore[arg-type]
    async with way_out.client("https://feeds.example.org"):
        pass
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/ca.pem")
    with pytest.raises(SettingsError, match=r"SSL_CERT_FILE='/nonexistent/ca\.pem'"):
        way_out.client("https://feeds.example.org")


@pytest.mark.parametrize(("allowed", "taken"), [("", False), ("declared", True), ("127.0.0.1", True)])
async def test_an_alarm_is_told_to_no_private_address_unless_allowed(allowed: str, taken: bool) -> None:
    with http_server(lambda _: Answer(405, b"")) as url:
        target = Target(kind="json", url=SecretStr(f"{url}/hook/s3cret"))
        async with open_client(Egress.of(Settings(private_hosts=allowed)), target) as client:
            problem, _ = await send(client, target, trial_event({}))
    assert problem is not None
    assert ("PRIVATE_HOSTS" in problem, "it answers" in problem) == (not taken, taken)
    assert "s3cret" not in problem
