"""Events on their way to webhooks: no odd target and no edit of the file loses one in silence."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from monitoring.alarm_file import Target
from monitoring.alarms import Alarm, Event
from services.alarms import telling
from services.alarms.telling import Telling, send, trial_event


def target(name: str = "a", token: str = "token") -> Target:
    return Target(kind="json", url=SecretStr(f"http://{name}.invalid/"), headers={"X-Token": SecretStr(token)})


def event(number: int, *names: str) -> Event:
    alarm = Alarm("r", "s", "warning", "wrong", 1, since=1.0, id=str(number), opened_at=1.0)
    return Event("opened", 1.0, alarm, names)


async def test_a_header_that_cannot_be_sent_is_a_problem_of_its_target() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        assert await send(client, target(), trial_event({})) == (None, False)
        assert await send(client, target(token="\N{LATIN CAPITAL LETTER A WITH DIAERESIS}"), trial_event({})) == (
            "UnicodeEncodeError",
            False,
        )


async def test_a_failure_that_nobody_foresaw_stops_no_later_event(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    async def odd(_: Any, __: Any, one: Event) -> tuple[str | None, bool]:
        if not sent:
            sent.append("failed")
            raise RuntimeError("odd")
        sent.append(one.id)
        return None, False

    monkeypatch.setattr(telling, "send", odd)
    sender = Telling({"team": target()})
    sender.tell(event(1, "team"))
    sender.tell(event(2, "team"))
    await sender.close(5)
    assert sent == ["failed", "2-opened"]
