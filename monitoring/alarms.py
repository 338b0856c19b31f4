"""Alarms by pure rules: a condition that lasts opens one, one that is gone for a while closes it, each told once.

`judge` takes what was found wrong now and what was known before; it reads no clock and no store. An alarm is one rule
about one subject: a group, a source, a dataset, a raw partition.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Severity = Literal["info", "warning", "critical"]

EventKind = Literal["opened", "closed", "reminder", "test"]


@dataclass(frozen=True)
class Rule:
    """When an alarm opens and closes. `monitoring/alarm_file.py` reads them, with what each kind looks at."""

    name: str
    severity: Severity = "warning"
    for_seconds: float = 0.0
    """The condition lasts for so long before the alarm opens."""
    clear_seconds: float = 60.0
    """It is gone for so long before the alarm closes."""
    remind_seconds: float = 14_400.0
    """An open alarm is told again so often; 0: never."""
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A subject that is not as a rule wants it, now."""

    subject: str
    text: str
    """One sentence for people: the thing, the value, the bound."""
    value: float | str


@dataclass(frozen=True)
class Alarm:
    """One rule about one subject, while its condition lasts or has only just gone. Times in seconds since the epoch."""

    rule: str
    subject: str
    severity: Severity
    text: str
    value: float | str
    since: float
    """When the condition was first seen."""
    id: str | None = None
    """None while it waits for `for_seconds`: nobody has been told."""
    opened_at: float | None = None
    told_at: float | None = None
    clear_since: float | None = None
    closed_at: float | None = None

    def json(self) -> dict[str, Any]:
        """For scripts, and as it is sent."""
        names = ("id", "rule", "subject", "severity", "text", "value", "since", "opened_at", "closed_at")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Event:
    """Something to be told. `id` is the same however often it is sent."""

    kind: EventKind
    at: float
    alarm: Alarm
    targets: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.alarm.id}-{self.kind}" + (f"-{self.at:.0f}" if self.kind == "reminder" else "")

    def json(self) -> dict[str, Any]:
        return {"event": self.kind, "event_id": self.id, "at": self.at, "alarm": self.alarm.json()}


Key = tuple[str, str]
"""Rule and subject."""

Known = Mapping[Key, Alarm]


def judge(
    rules: Sequence[Rule],
    known: Known,
    found: Mapping[str, Sequence[Finding] | None],
    now: float,
    new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
) -> tuple[dict[Key, Alarm], list[Event]]:
    """The alarms from now on, and what is to be told. Pure but for `new_id`.

    `found` gives, by rule, the subjects that are wrong now; None for a rule that could not be looked at, whose alarms
    stay as they are: a store that is away neither opens nor closes one. An alarm whose rule is no more is closed.
    """
    alarms: dict[Key, Alarm] = {}
    events: list[Event] = []
    declared = {rule.name for rule in rules}
    for rule in rules:
        mine = {subject: alarm for (name, subject), alarm in known.items() if name == rule.name}
        findings = found.get(rule.name)
        if findings is None:
            alarms |= {(rule.name, subject): alarm for subject, alarm in mine.items()}
            continue
        wrong = {finding.subject: finding for finding in findings}
        for subject in [*wrong, *(subject for subject in mine if subject not in wrong)]:
            finding = wrong.get(subject)
            alarm, kind = (
                _gone(rule, mine[subject], now)
                if finding is None
                else _lasts(rule, mine.get(subject), finding, now, new_id)
            )
            if kind is not None and alarm is not None:
                events.append(Event(kind, now, alarm, rule.targets))
            if alarm is not None and alarm.closed_at is None:
                alarms[rule.name, subject] = alarm
    for (name, _), alarm in known.items():
        if name not in declared and alarm.id is not None:
            closed = replace(alarm, closed_at=now, text=f"{alarm.text} (its rule is no more)")
            events.append(Event("closed", now, closed, ()))
    return alarms, events


def taken_over(
    rules: Sequence[Rule], known: Known, stored: Sequence[Alarm], now: float
) -> tuple[dict[Key, Alarm], list[Event]]:
    """The alarms with those that were open before, and what is to be told. Pure.

    One that has been opened a second time, since nobody could know of the first, is closed; the first goes on.
    """
    alarms, events = dict(known), []
    targets = {rule.name: rule.targets for rule in rules}
    for alarm in stored:
        key = alarm.rule, alarm.subject
        second = alarms.get(key)
        if second is not None and second.id is not None:
            text = f"{second.text} (it goes on as the alarm {alarm.id})"
            closed = replace(second, closed_at=now, text=text)
            events.append(Event("closed", now, closed, targets.get(alarm.rule, ())))
        alarms[key] = alarm
    return alarms, events


def _lasts(
    rule: Rule, before: Alarm | None, finding: Finding, now: float, new_id: Callable[[], str]
) -> tuple[Alarm, EventKind | None]:
    if before is None:
        before = Alarm(rule.name, finding.subject, rule.severity, finding.text, finding.value, since=now)
    alarm = replace(before, text=finding.text, value=finding.value, severity=rule.severity, clear_since=None)
    if alarm.id is None:
        if now - alarm.since < rule.for_seconds:
            return alarm, None
        return replace(alarm, id=new_id(), opened_at=now, told_at=now), "opened"
    if rule.remind_seconds and alarm.told_at is not None and now - alarm.told_at >= rule.remind_seconds:
        return replace(alarm, told_at=now), "reminder"
    return alarm, None


def _gone(rule: Rule, before: Alarm, now: float) -> tuple[Alarm | None, EventKind | None]:
    if before.id is None:
        return None, None
    since = now if before.clear_since is None else before.clear_since
    if now - since < rule.clear_seconds:
        return replace(before, clear_since=since), None
    return replace(before, clear_since=since, closed_at=now), "closed"
