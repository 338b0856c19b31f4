"""Callers have so many requests a minute of each kind; and expensive reads take their turn."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

import api.request_limits
from api.access import CALLER, EVERYBODY, NOBODY, Caller
from api.clients import Breaker
from api.request_counts import MOST_CALLERS, WEBHOOK, WINDOW_SECONDS, Count, Kind, RequestCounts, judge
from api.request_limits import RequestLimits, headers_of, kind_of, network_of, who_asks
from stores.shared_counts import SharedCounts, Sums
from tests.waiting import PATIENCE_SECONDS


class Clock:
    def __init__(self) -> None:
        self.now = 6000.0

    def __call__(self) -> float:
        return self.now


class Redis(SharedCounts):
    """SharedCounts without a server: what several processes add up."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, str], int] = {}

    async def add(self, window: int, names: Sequence[str], counts: Sequence[int]) -> list[Sums]:
        for name, more in zip(names, counts, strict=True):
            self.sums[window, name] = self.sums.get((window, name), 0) + more
        return [Sums(self.sums[window, name], self.sums.get((window - 1, name), 0)) for name in names]


def counts(limit: int, clock: Clock) -> RequestCounts:
    return RequestCounts(dict.fromkeys(Kind, limit), clock)


def granted(asked: RequestCounts, times: int, caller: str = "a", kind: Kind = Kind.READS) -> int:
    verdicts = [asked.ask(kind, caller) for _ in range(times)]
    return sum(verdict is not None and not verdict.wait for verdict in verdicts)


def test_a_caller_has_its_limit_and_others_and_other_kinds_have_theirs() -> None:
    asked = counts(5, Clock())
    assert granted(asked, 9) == 5
    assert granted(asked, 9, "b") == 5
    assert granted(asked, 9, kind=Kind.CHANGES) == 5


def test_without_a_limit_nothing_is_counted() -> None:
    asked = counts(0, Clock())
    assert asked.ask(Kind.READS, "a") is None
    assert asked._counts == {}


@pytest.mark.parametrize("moment", [0.0, 15.0, 45.0, 59.9])
@pytest.mark.parametrize("limit", [1, 2, 10, 1000])
def test_who_waits_as_long_as_it_is_told_is_served_and_not_a_second_before(limit: int, moment: float) -> None:
    clock = Clock()
    clock.now += moment
    asked = counts(limit, clock)
    granted(asked, limit)
    for _ in range(5):
        verdict = asked.ask(Kind.READS, "a")
        assert verdict
        assert verdict.wait >= 1
        if verdict.wait > 1:
            clock.now += verdict.wait - 1.001
            assert granted(asked, 1) == 0
            clock.now += 1.002
        else:
            clock.now += 1
        assert granted(asked, 1) == 1
        granted(asked, limit)


def test_no_minute_has_more_than_a_tenth_above_the_limit_wherever_it_begins() -> None:
    """Windows of the clock alone would let twice the limit through around their border."""
    clock, limit = Clock(), 100
    asked = counts(limit, clock)
    times: list[float] = []
    for _ in range(30 * WINDOW_SECONDS):
        clock.now += 0.1
        times += [clock.now] * granted(asked, 7)
    most = max(sum(begin <= time < begin + WINDOW_SECONDS for time in times) for begin in times)
    assert most <= limit * 1.1


def test_what_is_left_becomes_less_until_nothing_is_and_is_all_there_after_two_minutes() -> None:
    count = Count(100)
    assert [judge(count, 3, 6000.0).left for _ in range(4)] == [2, 1, 0, 0]
    assert judge(count, 3, 6000.0 + 2 * WINDOW_SECONDS).left == 2


def test_a_refusal_can_be_foreseen_and_costs_nothing() -> None:
    clock = Clock()
    asked = counts(2, clock)
    assert [asked.refusal(Kind.CHANGES, "a") for _ in range(9)] == [None] * 9
    for left in (1, 0):
        assert (verdict := asked.ask(Kind.CHANGES, "a"))
        assert verdict.left == left
        assert (asked.refusal(Kind.CHANGES, "a") is None) == bool(left)
    assert asked.refusal(Kind.CHANGES, "a") == asked.ask(Kind.CHANGES, "a")
    clock.now += 2 * WINDOW_SECONDS
    assert asked.refusal(Kind.CHANGES, "a") is None


@pytest.mark.parametrize(
    ("request_line", "judged_later"),
    [
        ("POST /webhooks/shop", True),
        ("GET /webhooks/shop", False),
        ("POST /webhooks/", False),
        ("POST /webhooks/shop/", False),
        ("POST /webhooks/shop/more", False),
        ("POST /topics/webhooks/shop", False),
    ],
)
async def test_only_what_a_webhooks_endpoint_judges_itself_is_not_judged_before(
    request_line: str, judged_later: bool
) -> None:
    scene = Api(at_once=1, limit=1)
    method, _, path = request_line.partition(" ")
    answers = [await scene.ask(path, method=method) for _ in range(2)]
    assert [answer["status"] for answer in answers] == [200, 200 if judged_later else 429]


async def test_processes_learn_of_each_others_requests() -> None:
    clock, redis = Clock(), Redis()
    one, other = counts(10, clock), counts(10, clock)
    assert granted(one, 6) == 6
    assert granted(other, 1) == 1
    for asked in (one, other):
        assert await asked.settle(redis)
    assert granted(other, 9) == 3
    assert not await one.settle(redis)  # nothing new
    clock.now += WINDOW_SECONDS
    assert granted(other, 9) == 0


async def test_redis_is_not_told_who_asks_nor_of_callers_far_from_their_limit() -> None:
    redis = Redis()
    asked = counts(100, Clock())
    granted(asked, 9, "203.0.113.7")
    assert not await asked.settle(redis)
    granted(asked, 1, "203.0.113.7")
    assert await asked.settle(redis)
    assert list(redis.sums.values()) == [10]
    assert "203" not in str(redis.sums)


async def test_it_ends_although_the_redis_client_takes_a_cancellation_for_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So does `asyncio.wait_for` before Python 3.12, by which redis-py sends."""
    asking = asyncio.Event()

    class Swallowing(Redis):
        async def add(self, window: int, names: Sequence[str], counts: Sequence[int]) -> list[Sums]:
            asking.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return await super().add(window, names, counts)

    monkeypatch.setattr(api.request_counts, "SETTLE_SECONDS", 0.01)
    asked = counts(10, Clock())
    granted(asked, 6)
    asked.share(Swallowing(), Breaker("Redis"))
    await asking.wait()
    await asyncio.wait_for(asked.close(), PATIENCE_SECONDS)


def test_made_up_callers_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.request_counts.MOST_CALLERS", 10)
    clock = Clock()
    asked = counts(5, clock)
    assert sum(granted(asked, 1, str(number)) for number in range(40)) == 10 + 5
    assert len(asked._counts) <= 11 < MOST_CALLERS
    clock.now += 2 * WINDOW_SECONDS
    assert granted(asked, 1, "new") == 1
    assert len(asked._counts) == 1


def test_made_up_addresses_take_nothing_away_from_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.request_counts.MOST_CALLERS", 10)
    asked = counts(5, Clock())
    for number in range(40):
        granted(asked, 1, f"2001:db8:0:{number}::/64")
    key = who_asks({CALLER: Caller("shop", frozenset())})
    assert granted(asked, 9, key) == 5
    assert granted(asked, 9, f"{WEBHOOK}shop") == 5
    assert granted(asked, 9, "2001:db8:0:99::/64") == 0


@pytest.mark.parametrize(
    ("request_line", "kind"),
    [
        ("GET /api/customers/CUST001", Kind.READS),
        ("GET /api/customers?page=12&limit=100", Kind.READS),
        ("GET /orders?cursor=WyJPMSJd&page_size=20&", Kind.READS),
        ("GET /runs/0198a", Kind.READS),
        ("GET /users", Kind.READS),
        ("GET /search?q=a", Kind.EXPENSIVE),
        ("GET /users?q=a", Kind.EXPENSIVE),
        ("GET /data?page=1&search=a", Kind.EXPENSIVE),
        ("GET /data?page=1000", Kind.EXPENSIVE),
        ("GET /data?page=%39999", Kind.EXPENSIVE),
        ("GET /data?page=1&page=9999", Kind.EXPENSIVE),
        ("GET /users?%71=a", Kind.EXPENSIVE),
        ("GET /data?%73earch=a", Kind.EXPENSIVE),
        ("GET /data?limit=1\n&q=a", Kind.EXPENSIVE),
        ("HEAD /data?source=titanic", Kind.EXPENSIVE),
        ("GET /orders?page=2&min_price=0", Kind.EXPENSIVE),
        ("GET /orders?product=Bread", Kind.EXPENSIVE),
        ("GET /orders?from=2024-01-01&limit=1", Kind.EXPENSIVE),
        ("GET /runs", Kind.EXPENSIVE),
        ("GET /health", Kind.EXPENSIVE),
        ("GET /runs?status=failed&page=2", Kind.EXPENSIVE),
        ("GET /trace/customers/CUST001", Kind.EXPENSIVE),
        ("GET /topics/customers.raw/messages", Kind.EXPENSIVE),
        ("GET /lag/normalizer/history", Kind.EXPENSIVE),
        ("POST /users/", Kind.CHANGES),
        ("DELETE /api/customers/CUST001", Kind.CHANGES),
        ("POST /topics/customers.raw/messages", Kind.CHANGES),
        ("MADEUP /", Kind.CHANGES),
    ],
)
def test_a_request_is_of_one_kind(request_line: str, kind: Kind) -> None:
    method, _, address = request_line.partition(" ")
    path, _, query = address.partition("?")
    assert kind_of(method, path, query.encode()) is kind


def test_a_key_counts_by_its_name_and_nobody_by_an_address() -> None:
    scope = {"client": ("203.0.113.7", 1)}
    assert who_asks(scope) == "203.0.113.7"
    assert who_asks({**scope, CALLER: Caller("203.0.113.7", frozenset())}) == "key 203.0.113.7"
    for named in (Caller(NOBODY.name, NOBODY.scopes), Caller(EVERYBODY.name, EVERYBODY.scopes)):
        assert who_asks({**scope, CALLER: named}) == f"key {named.name}"
    assert {who_asks({**scope, CALLER: caller}) for caller in (NOBODY, EVERYBODY)} == {"203.0.113.7"}
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:203.0.113.7") == "203.0.113.7"
    assert network_of("testclient") == "testclient"


def test_headers_are_as_the_draft_writes_them() -> None:
    verdict = judge(Count(100), 3, 6015.5)
    assert headers_of(Kind.CHANGES, verdict) == (
        (b"ratelimit-policy", b'"changes";q=3;w=60'),
        (b"ratelimit", b'"changes";r=2;t=45'),
    )


class Api:
    """An application whose expensive reads end when the test lets them."""

    def __init__(self, at_once: int, limit: int = 0) -> None:
        self.limits = RequestLimits(self.answer, at_once)
        self.may_end = asyncio.Event()
        self.at_work = self.most_at_work = 0
        self._state = SimpleNamespace(state=SimpleNamespace(request_counts=counts(limit, Clock())))

    async def answer(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/search":
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            await self.may_end.wait()
            self.at_work -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(self, path: str, *, read: asyncio.Event | None = None, **more: Any) -> Message:
        """The first message of the answer, which the client reads once `read` is set."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            if read:
                await read.wait()
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request"}

        scope: Scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
        scope.update(more)
        await self.limits({"client": ("203.0.113.7", 1), **scope, "app": self._state}, receive, send)
        return sent[0]


async def test_expensive_reads_take_turns_and_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.request_limits, "WAIT_SECONDS", 0.01)
    scene = Api(at_once=3)
    searches = [asyncio.create_task(scene.ask("/search", client=(str(number), 1))) for number in range(200)]
    refused = {task.result()["status"] async for task in _first_done(searches, 197)}
    assert refused == {503}
    assert [(await scene.ask(path))["status"] for path in ("/api/health", "/api/customers/C1")] == [200, 200]
    scene.may_end.set()
    await asyncio.gather(*searches)
    assert scene.most_at_work == 3
    assert (await scene.ask("/search"))["status"] == 200  # every place is free again


async def test_one_caller_takes_half_of_the_turns_and_leaves_the_others_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Api(at_once=4)
    with monkeypatch.context() as patch:
        patch.setattr(api.request_limits, "WAIT_SECONDS", 0.01)
        greedy = [asyncio.create_task(scene.ask("/search")) for _ in range(20)]
        assert {task.result()["status"] async for task in _first_done(greedy, 18)} == {503}
    assert scene.at_work == 2
    more = [asyncio.create_task(scene.ask("/search", client=(other, 1))) for other in ("198.51.100.1", "2001:db8::1")]
    for _ in range(20):  # turns of the loop
        await asyncio.sleep(0)
    assert scene.at_work == 4
    scene.may_end.set()
    assert {answer["status"] for answer in await asyncio.gather(*more)} == {200}
    await asyncio.gather(*greedy)
    assert not scene.limits._own


async def test_an_answer_that_is_read_slowly_takes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.request_limits, "WAIT_SECONDS", 0.01)
    scene, read = Api(at_once=1), asyncio.Event()
    scene.may_end.set()
    slow = [asyncio.create_task(scene.ask("/search", read=read)) for _ in range(5)]
    for _ in range(20):  # turns of the loop: all of them are being read
        await asyncio.sleep(0)
    assert (await scene.ask("/search"))["status"] == 200
    read.set()
    assert {answer["status"] for answer in await asyncio.gather(*slow)} == {200}


async def _first_done(tasks: list[asyncio.Task[Message]], number: int) -> Any:
    waiting, done = set(tasks), 0
    while done < number:
        ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done += len(ended)
        for task in ended:
            yield task


async def test_supervisors_are_never_refused() -> None:
    scene = Api(at_once=1, limit=1)
    assert [(await scene.ask("/"))["status"] for _ in range(2)] == [200, 429]
    assert {(await scene.ask(path))["status"] for path in ("/livez", "/readyz", "/api/health", "/metrics")} == {200}


@pytest.mark.parametrize(
    ("peer", "forwarded", "more", "warnings"),
    [
        ("10.0.0.1", b"203.0.113.7", {}, 1),
        ("203.0.113.7", b"198.51.100.9, 203.0.113.7", {}, 0),  # believed: the caller is whom the proxy has named
        ("203.0.113.7", b"203.0.113.7:4711", {}, 0),
        ("10.0.0.1", None, {}, 0),
        ("10.0.0.1", b"203.0.113.7", {CALLER: Caller("shop", frozenset())}, 0),  # counts by its key
    ],
)
async def test_a_proxy_that_is_not_trusted_is_told_of_once(
    peer: str, forwarded: bytes | None, more: dict[str, Any], warnings: int
) -> None:
    scene = Api(at_once=1, limit=9)
    headers = [(b"host", b"a"), *([(b"x-forwarded-for", forwarded)] if forwarded else [])]
    with capture_logs() as logged:
        for _ in range(3):
            await scene.ask("/", client=(peer, 0), headers=headers, **more)
    told = [line for line in logged if line["event"] == "proxy_not_trusted"]
    assert [(line["log_level"], line["proxy"]) for line in told] == [("warning", peer)] * warnings


async def test_a_refusal_says_when_to_come_again() -> None:
    scene = Api(at_once=1, limit=1)
    await scene.ask("/")
    refusal = await scene.ask("/")
    headers = dict(refusal["headers"])
    assert int(headers[b"retry-after"]) >= 1
    assert headers[b"content-type"].startswith(b"application/problem+json")
