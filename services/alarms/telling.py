"""Sends the events of alarms to webhooks, and each to the log. Whoever tells never waits for a webhook."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import structlog

from monitoring.alarm_file import Target
from monitoring.alarms import Alarm, Event
from runtime.egress import AddressRefused, Egress

LONGEST_QUEUE = 200
"""Events that wait for one target; beyond that the oldest is dropped."""

ANSWER_SECONDS = 10.0
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
MOST_TRIES = 20
"""Some quarter of an hour."""

PASSING = frozenset({408, 425, 429, *range(500, 600)})
"""Answers after which another try may do."""

ENDED = "the monitor ends, or alarms.toml has another target now"

log = structlog.get_logger()


class Telling:
    """Tells each event to its targets, in order, one request at a time per target. For one event loop; close it."""

    def __init__(self, targets: Mapping[str, Target], egress: Egress) -> None:
        self._egress = egress
        self._mailboxes = {name: _Mailbox(name, target, egress) for name, target in targets.items()}

    def tell(self, event: Event) -> None:
        """Log it, and have it sent. Returns at once."""
        alarm = event.alarm
        write = log.info if event.kind in ("closed", "test") else log.warning
        write(
            f"alarm_{event.kind}",
            alarm=alarm.id,
            rule=alarm.rule,
            subject=alarm.subject,
            severity=alarm.severity,
            reason=alarm.text,
        )
        for name in event.targets:
            if mailbox := self._mailboxes.get(name):
                mailbox.put(event)

    def problems(self) -> dict[str, str]:
        """Targets whose latest request has failed, with the reason."""
        return {name: mailbox.problem for name, mailbox in self._mailboxes.items() if mailbox.problem}

    async def retarget(self, targets: Mapping[str, Target]) -> None:
        """Tell these targets from now on. To those that are as they were, what waits is sent all the same."""
        before = self._mailboxes
        kept = {name: mailbox for name, mailbox in before.items() if targets.get(name) == mailbox.target}
        self._mailboxes = {
            name: kept.get(name) or _Mailbox(name, target, self._egress) for name, target in targets.items()
        }
        await asyncio.gather(*(mailbox.close(0.0) for name, mailbox in before.items() if name not in kept))

    async def close(self, seconds: float = 0.0) -> None:
        """Send for so long what still waits, then end. What is left is logged."""
        await asyncio.gather(*(mailbox.close(seconds) for mailbox in self._mailboxes.values()))


class _Mailbox:
    """Events on their way to one target."""

    def __init__(self, name: str, target: Target, egress: Egress) -> None:
        self._name, self._egress = name, egress
        self.target = target
        self._queue: asyncio.Queue[Event] = asyncio.Queue(LONGEST_QUEUE)
        self._task: asyncio.Task[None] | None = None
        self.problem: str | None = None

    def put(self, event: Event) -> None:
        if self._queue.full():
            self._drop_next("too many wait for this target")
        self._queue.put_nowait(event)
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name=f"alarms to {self._name}")

    async def close(self, seconds: float) -> None:
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._queue.join(), seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            while not self._queue.empty():
                self._drop_next(ENDED)

    def _drop_next(self, reason: str) -> None:
        dropped = self._queue.get_nowait()
        self._queue.task_done()
        log.error("alarm_not_sent", target=self._name, event_id=dropped.id, reason=reason)

    async def _work(self) -> None:
        async with open_client(self._egress, self.target) as client:
            while True:
                event = await self._queue.get()
                try:
                    await self._deliver(client, event)
                except asyncio.CancelledError:
                    log.error("alarm_not_sent", target=self._name, event_id=event.id, reason=ENDED)  # noqa: TRY400
                    raise
                except Exception as error:
                    self.problem = type(error).__name__
                    log.exception("alarm_not_sent", target=self._name, event_id=event.id)
                finally:
                    self._queue.task_done()

    async def _deliver(self, client: httpx.AsyncClient, event: Event) -> None:
        wait = FIRST_WAIT_SECONDS
        for left in reversed(range(MOST_TRIES)):
            self.problem, passing = await send(client, self.target, event)
            if self.problem is None:
                return
            if not passing or not left:
                break
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        log.error("alarm_not_sent", target=self._name, event_id=event.id, reason=self.problem)


def open_client(egress: Egress, target: Target) -> httpx.AsyncClient:
    """A client to send to this target with; close it."""
    return egress.client(target.url.get_secret_value(), timeout=ANSWER_SECONDS, follow_redirects=False)


async def send(client: httpx.AsyncClient, target: Target, event: Event) -> tuple[str | None, bool]:
    """Send once. None, or the problem, and whether another try may do. The address, a secret, is in no problem."""
    headers = {name: value.get_secret_value() for name, value in target.headers.items()}
    try:
        answer = await client.post(target.url.get_secret_value(), json=body_of(event, target.kind), headers=headers)
    except AddressRefused as refused:
        return str(refused), False
    except httpx.TimeoutException:
        return f"no answer within {ANSWER_SECONDS:g} s", True
    except httpx.HTTPError as error:
        return type(error).__name__, True
    if answer.is_success:
        return None, False
    if answer.is_redirect:
        return f"it answers {answer.status_code}: redirects are not followed; name the address itself", False
    return f"it answers {answer.status_code}", answer.status_code in PASSING


def body_of(event: Event, kind: str) -> dict[str, Any]:
    """The body of a request: the event itself, or a message in Slack's form. Pure."""
    if kind == "json":
        return {"source": "headrace", **event.json()}
    alarm = event.alarm
    word = {"opened": "open", "closed": "closed", "reminder": "still open", "test": "a test"}[event.kind]
    since = datetime.fromtimestamp(alarm.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    title = f"[{alarm.severity}] {alarm.rule}: {alarm.subject} is {word}"
    return {"text": f"*{_plain(title)}*\n{_plain(alarm.text)}\nsince {since}"}


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def trial_event(targets: Mapping[str, Target]) -> Event:
    """An event that says that it is a test."""
    now = time.time()
    text = "a test of this target, by `headrace alarms test`; nothing is wrong"
    alarm = Alarm("test", "headrace", "info", text, "test", since=now, id=f"test-{now:.0f}", opened_at=now)
    return Event("test", now, alarm, tuple(targets))
