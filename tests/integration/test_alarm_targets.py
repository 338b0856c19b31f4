"""Events of alarms reach their webhooks, in order, over failures; nobody waits for one that does not answer."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import structlog
from pydantic import SecretStr

from monitoring.alarm_file import Target
from monitoring.alarms import Alarm, Event
from runtime.egress import Egress
from runtime.private_hosts import private_hosts
from services.alarms import telling
from services.alarms.telling import LONGEST_QUEUE, Telling
from tests.integration.alarm_receiver import Receiver
from tests.waiting import eventually_async

ALARM = Alarm("behind", "sink-redis", "critical", "400 s behind <&>", 400.0, since=0.0, id="a1", opened_at=0.0)

TO_LOOPBACK = Egress(private_hosts("declared"))


def holds(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return condition()

    return look


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(telling, "LONGEST_WAIT_SECONDS", 0.02)


def event(number: int = 1) -> Event:
    return Event("opened", float(number), replace(ALARM, id=f"a{number}"), ("team", "not declared"))


def target(receiver: Receiver, kind: str = "json") -> Target:
    headers = {"Authorization": SecretStr("Bearer t")}
    return Target(kind=kind, url=SecretStr(f"{receiver.url}/hook"), headers=headers)


async def test_an_event_is_sent_again_until_it_is_taken_and_the_next_one_follows() -> None:
    with Receiver([503, 500, 429]) as receiver:
        sender = Telling({"team": target(receiver)}, TO_LOOPBACK)
        sender.tell(event(1))
        sender.tell(event(2))
        await eventually_async(holds(lambda: len(receiver.bodies) == 5), what="both have come")
        await sender.close(5)
    assert [one["event_id"] for one in receiver.bodies] == ["a1-opened"] * 4 + ["a2-opened"]
    assert receiver.bodies[0] == {"source": "headrace", **event(1).json()}
    assert receiver.headers[0]["Authorization"] == "Bearer t"
    assert not sender.problems()


async def test_a_message_in_slacks_form_says_which_alarm_and_why() -> None:
    with Receiver() as receiver:
        sender = Telling({"team": target(receiver, "slack")}, TO_LOOPBACK)
        sender.tell(event())
        await sender.close(5)
    [body] = receiver.bodies
    assert body == {
        "text": "*[critical] behind: sink-redis is open*\n400 s behind &lt;&amp;&gt;\nsince 1970-01-01 00:00:00 UTC"
    }


@pytest.mark.parametrize("status", [302, 308, 404])
async def test_a_redirect_is_not_followed_and_what_is_refused_is_not_tried_again(status: int) -> None:
    with Receiver([status]) as receiver, structlog.testing.capture_logs() as logs:
        sender = Telling({"team": target(receiver)}, TO_LOOPBACK)
        sender.tell(event())
        await sender.close(5)
    assert receiver.paths == ["/hook"]
    [line] = [line for line in logs if line["event"] == "alarm_not_sent"]
    assert str(status) in line["reason"]
    assert receiver.url not in str(logs), "the address is a secret"


async def test_who_tells_does_not_wait_and_what_waits_is_bounded() -> None:
    with Receiver() as receiver, structlog.testing.capture_logs() as logs:
        receiver.waits.clear()
        sender = Telling({"team": target(receiver)}, TO_LOOPBACK)
        began = time.process_time()
        for number in range(LONGEST_QUEUE + 5):
            sender.tell(event(number))
        assert time.process_time() - began < 5
        assert sum(line["event"] == "alarm_not_sent" for line in logs) == 5
        assert sum(line["event"] == "alarm_opened" for line in logs) == LONGEST_QUEUE + 5
        receiver.waits.set()
        await eventually_async(holds(lambda: len(receiver.bodies) == LONGEST_QUEUE), what="the others come")
        await sender.close(5)
    assert receiver.bodies[0]["event_id"] == "a5-opened", "the oldest are dropped"


async def test_an_address_where_nobody_listens_is_a_problem_that_is_shown() -> None:
    with Receiver() as receiver:
        gone = target(receiver)
    sender = Telling({"team": gone}, TO_LOOPBACK)
    sender.tell(event())
    await eventually_async(holds(lambda: sender.problems() == {"team": "ConnectError"}), what="the problem is shown")
    await sender.close()
