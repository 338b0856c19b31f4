"""Requests of people who mean harm, to the API as a process over real stores: refused or answered, and no harm done."""

import asyncio
import gzip
import http.client
import itertools
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import hypothesis
import pytest

from runtime.settings import Settings
from stores.redis_client import Redis
from tests.integration.api_client import CUSTOMERS, RECORDS, customer, record, store
from tests.processes import Process
from tests.waiting import eventually

NOWHERE = "zzqx7"
"""In no record."""

INJECTIONS = {
    "sql": ["' OR '1'='1", "'; DROP TABLE customers; --", "') UNION SELECT 1 --", "\\'; SELECT pg_sleep(9) --", "$1"],
    "like": ["%", "_", "%%", "A%a", "\\%", "___"],
    "elasticsearch": ["* OR *:*", "/.*/", '{"match_all":{}}', '"}},"size":9,"query":{"match_all":{', "_exists_:email"],
    "redis": ["*", "\r\nFLUSHALL\r\n", "CUST001\r\n$3\r\nfoo", "../cache", "cache:customers", "\n*1\r\n$8\r\nFLUSHDB"],
    "format": ["{0.__class__}", "%s%n", "${jndi:ldap://x}", "{{7*7}}", "\x1b[2J", "a\r\nset-cookie: a=b"],
}  # fmt: skip
MATCHING_NOTHING = [f"{NOWHERE}{text}" for texts in INJECTIONS.values() for text in texts] + INJECTIONS["like"]
"""As a filter or a search each is a text that no record has, if it is taken for a text."""


@pytest.fixture(scope="module")
def process(shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    customers = [customer(number) for number in range(1, 31)]
    asyncio.run(store(shared_pipeline_settings, CUSTOMERS, customers))
    records = [record("shop", str(number), f"Bread {number}") for number in range(30)]
    asyncio.run(store(shared_pipeline_settings, RECORDS, records))
    process = Process("api", shared_pipeline_settings, tmp_path_factory.mktemp("log") / "api.log")
    with process.running():
        yield process


@pytest.fixture
def api(process: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=process.url, timeout=90, trust_env=False) as client:
        yield client


def operations(api: httpx.Client) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every one of the document but the stream, which has no end."""
    for path, methods in api.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            if path != "/lag/stream":
                yield method.upper(), path, operation


def address(path: str, operation: dict[str, Any], name: str, value: str) -> str:
    """The operation's address with that parameter; the others are as they are if nobody gives them."""
    query = {}
    for parameter in operation.get("parameters", ()):
        given = value if parameter["name"] == name else "customers.raw" if parameter["name"] == "topic" else "1"
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(given, safe=""))
        elif parameter["name"] == name or parameter["required"]:
            query[parameter["name"]] = given
    return f"{path}?{urlencode(query)}" if query else path


def test_no_parameter_is_taken_for_anything_but_a_text(api: httpx.Client, shared_pipeline_settings: Settings) -> None:
    cached = api.get("/api/customers/CUST001")
    thorough = hypothesis.settings.get_current_profile_name() == "nightly"
    asked, wrong = 0, []
    with ThreadPoolExecutor(4) as threads:

        def ask(method: str, at: str) -> tuple[str, httpx.Response]:
            return f"{method} {at}", api.request(method, at)

        waiting = []
        for method, path, operation in operations(api):
            for parameter in operation.get("parameters", ()):
                # Looks into topics take turns, two at a time: of those the gate tries a few.
                slow = path.startswith(("/topics/", "/trace/")) and not thorough
                texts = MATCHING_NOTHING[:: 8 if slow else 1]
                if method != "DELETE":  # which waits for a pipeline that is not there, if the key is one
                    targets = [address(path, operation, parameter["name"], text) for text in texts]
                    waiting += [threads.submit(ask, method, target) for target in targets]
        for future in waiting:
            request, answer = future.result()
            asked += 1
            found = answer.json() if answer.status_code == 200 else {}
            rows = found.get("data", []) if isinstance(found, dict) else []
            if answer.is_server_error or "set-cookie" in answer.headers or rows:
                wrong.append(f"{request} {answer.status_code} {answer.text[:300]}")
    assert wrong == []
    assert asked > 1_000
    again = api.get("/api/customers/CUST001")
    assert (again.headers["x-cache"], again.content) == ("hit", cached.content)
    assert api.get("/api/customers").json()["total"] == 30
    assert api.get("/data", params={"search": "bread"}).json()["total"] == 30


def test_what_is_sent_ends_up_in_no_header_and_makes_no_line_of_the_log(process: Process) -> None:
    evil = "/data?search=%0d%0aset-cookie:%20a=b%1b%5b2J", "/api/customers/%0d%0a%1b[31m%0a{}", "/%0a%22%7d%0a%7b"
    hidden = {"X-Request-ID": "a\x1b[2J", "User-Agent": "b\x1b[2J"}  # which is refused before anybody reads it
    place, ids = urlsplit(process.url), []
    for target, headers in itertools.product(evil, ({}, hidden, {"X-Request-ID": "a%1b%0a{}", "User-Agent": "\xa0"})):
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        answer.read()
        ids += answer.headers.get_all("X-Request-ID", [])
        assert (answer.status == 400) or headers is not hidden
        assert "set-cookie" not in {name.lower() for name, _ in answer.getheaders()}
        assert all(value.isprintable() for _, value in answer.getheaders())
        connection.close()
    assert len(ids) == 2 * len(evil)
    eventually(
        lambda: set(ids) <= {line["request_id"] for line in process.logged("request")}, what="their lines are written"
    )
    log = process._log.read_bytes().decode()
    assert not set(log) & {"\x1b", "\r"}
    assert all(json.loads(line)["event"] for line in log.splitlines())


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /users/ HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nhost: a\n x: b\n\n",
        b"GET http://\x80/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
    ],
    ids=["NUL", "two lengths", "length and chunks", "line feeds", "no address", "TLS", "version"],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(process: Process, request_: bytes) -> None:
    place = urlsplit(process.url)
    with socket.create_connection((str(place.hostname), place.port or 0), timeout=60) as connection:
        connection.sendall(request_)
        answer = connection.recv(65_536)
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer), answer[:200]


def test_bombs_are_refused_by_every_operation_with_a_body(api: httpx.Client) -> None:
    deep = b"[" * 10_000 + b"]" * 10_000
    objects = b'{"payload":' * 10_000 + b"1" + b"}" * 10_000
    bombs = {
        "gzip": (gzip.compress(bytes(50_000_000)), {"Content-Encoding": "gzip"}),
        "arrays": (deep, {}),
        "objects": (objects, {}),
        "payload": (b'{"payload":%b}' % deep, {}),
        "set": (b'{"set":{"a":%b}}' % deep, {}),
        "digits": (b'{"ids":[%b]}' % (b"9" * 50_000), {}),
        "exponent": (b'{"rate":1e999999999,"ids":[1e999999999]}', {}),
        "one name again and again": (b"{%b}" % b",".join([b'"ids":[1]'] * 5_000), {}),
        "many names": (b"{%b}" % b",".join(b'"%d":1' % number for number in range(6_000)), {}),
    }
    tried, wrong = 0, []
    for method, path, operation in operations(api):
        if "requestBody" in operation:
            for name, (body, headers) in bombs.items():
                at = address(path, operation, "", "")
                answer = api.request(method, at, content=body, headers={"Content-Type": "application/json", **headers})
                tried += 1
                if answer.is_server_error or len(answer.content) > 20_000:
                    wrong.append(f"{name} {method} {at}: {answer.status_code} {answer.text[:200]}")
    assert wrong == []
    assert tried >= 10 * len(bombs)


def test_200_expensive_searches_at_once_leave_health_and_cached_reads_alone(api: httpx.Client) -> None:
    api.get("/api/customers/CUST002")
    thorough = hypothesis.settings.get_current_profile_name() == "nightly"
    searches = 5_000 if thorough else 200
    with ThreadPoolExecutor(200) as threads, httpx.Client(
        base_url=api.base_url, timeout=90, trust_env=False, limits=httpx.Limits(max_connections=200)
    ) as flood:  # fmt: skip
        text = " ".join("abcdefghijklmnopqrstuvwxyz"[:24])
        asked = [
            threads.submit(flood.get, "/search", params={"q": text, "page_size": 100, "page": 1 + number % 100})
            for number in range(searches)
        ]
        for _ in range(20):
            assert api.get("/api/health").status_code == 200
            assert api.get("/api/customers/CUST002").headers["x-cache"] == "hit"
        answers = [future.result() for future in asked]
    assert {answer.status_code for answer in answers} <= {200, 429, 503}, "429: more than are allowed in a minute"
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code != 200)
    assert any(answer.status_code == 200 for answer in answers)


def test_redis_has_entries_of_the_cache_only_whatever_was_asked_for(process: Process, api: httpx.Client) -> None:
    for text in INJECTIONS["redis"]:
        api.get(f"/api/customers/{quote(text, safe='')}")
    prefix = f"{process.environment['HEADRACE_NAMESPACE']}."
    keys = asyncio.run(keys_of(process.environment["REDIS_URL"], prefix))
    assert keys
    assert {key.removeprefix(prefix).partition(":")[0] for key in keys} <= {"cache", "requests"}


async def keys_of(url: str, prefix: str) -> list[str]:
    redis = Redis.from_url(url)
    try:
        return [key.decode() async for key in redis.scan_iter(f"{prefix}*")]
    finally:
        await redis.aclose()
