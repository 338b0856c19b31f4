"""Events on their way to webhooks: no odd target and no edit of the file loses one in silence."""

import asyncio
from typing import Any

import httpx
import pytest
import structlog
from pydantic import SecretStr

from monitoring.alarm_file import Target
from monitoring.alarms import Alarm, Event
from runtime.egress import Egress
from services.alarms import telling
from services.alarms.telling import Telling


def target(name: str = "a", token: str = "token") -> Target:
    return Target(kind="json", url=SecretStr(f"http://{name}.invalid/"), headers={"X-Token": SecretStr(token)})


def event(number: int, *names: str) -> Event:
    alarm = Alarm("r", "s", "warning", "wrong", 1, since=1.0, id=str(number), opened_at=1.0)
    return Event("opened", 1.0, alarm, names)


async def test_a_failure_that_nobody_foresaw_stops_no_later_event(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    async def odd(_: Any, __: Any, one: Event) -> tuple[str | None, bool]:
        if not sent:
            sent.append("failed")
            raise RuntimeError("odd")
        sent.append(one.id)
        return None, False

    monkeypatch.setattr(telling, "send", odd)
    sender = Telling({"team": target()}, Egress())
    sender.tell(event(1, "team"))
    sender.tell(event(2, "team"))
    await sender.close(5)
    assert sent == ["failed", "2-opened"]


async def test_another_target_drops_nothing_that_waits_for_one_that_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_now = asyncio.Event()
    sent: list[tuple[str, str]] = []

    async def slow(_: Any, to: Target, one: Event) -> tuple[str | None, bool]:
        await open_now.wait()
        sent.append((httpx.URL(to.url.get_secret_value()).host, one.id))
        return None, False

    monkeypatch.setattr(telling, "send", slow)
    sender = Telling({"same": target("same"), "changed": target("before")}, Egress())
    for number in (1, 2):
        sender.tell(event(number, "same", "changed"))
    await asyncio.sleep(0)  # the first of each is on its way
    with structlog.testing.capture_logs() as logs:
        await sender.retarget({"same": target("same"), "changed": target("after"), "new": target("new")})
    assert [(line["event"], line["target"], line["event_id"]) for line in logs] == [
        ("alarm_not_sent", "changed", "1-opened"),
        ("alarm_not_sent", "changed", "2-opened"),
    ]
    sender.tell(event(3, "same", "changed", "new"))
    open_now.set()
    await sender.close(5)
    assert sorted(sent) == [
        ("after.invalid", "3-opened"),
        ("new.invalid", "3-opened"),
        ("same.invalid", "1-opened"),
        ("same.invalid", "2-opened"),
        ("same.invalid", "3-opened"),
    ]
