"""Findings of the rules of alarms: of the lag in the monitor's view, of the rest by asking Postgres and Kafka."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import structlog
from confluent_kafka import KafkaException
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from local_stack.state_folder import StateFolder
from monitoring.alarm_file import (
    AlarmFile,
    AuditHole,
    Drift,
    FailureRate,
    KafkaAway,
    LagSeconds,
    RuleBlock,
    RunFailed,
    VerdictIs,
    WatchdogRestarts,
)
from monitoring.alarms import Finding
from monitoring.view import GroupView, SystemLag
from runtime.settings import Settings
from services.audits.audit import PartitionAudit, audit
from stores.epochs import raw_topics
from stores.outages import is_unavailable

AUDIT_EVERY_SECONDS = 60.0

LONGEST_REASON = 300
"""Characters of a run's failure in an alarm."""

_OUTCOMES = text("""
    SELECT topic, inserted + updated + unchanged + superseded + deleted AS stored, failed + held AS bad
    FROM coverage""")

_LATEST_RUNS = text("""
    SELECT DISTINCT ON (source) source, status, failure_reason FROM etl_runs
    WHERE status <> 'running' ORDER BY source, finished_at DESC""")

_DRIFT = text("SELECT source_name, dataset, field, what, reason FROM schema_drift WHERE ended_at IS NULL")

log = structlog.get_logger()

Counts = Mapping[str, tuple[int, int]]
"""By dataset: records that are stored, and that have failed or are held."""


class Findings:
    """Looks at everything that the rules are about. For one event loop."""

    def __init__(self, settings: Settings, engine: AsyncEngine) -> None:
        self._settings = settings
        self._engine = engine
        self._history: deque[tuple[float, Counts]] = deque()
        self._audit: list[PartitionAudit] | None = None
        self._audited_at = -AUDIT_EVERY_SECONDS
        self._failing: set[str] = set()

    @property
    def audited(self) -> list[PartitionAudit]:
        """The latest audit; nothing where no rule asks for one."""
        return self._audit or []

    async def look(self, file: AlarmFile, view: SystemLag) -> dict[str, list[Finding] | None]:
        """By rule what is wrong; None for a rule that cannot be looked at, since Postgres or Kafka is away.

        None also for one that fails in another way: it is logged once, and holds up no other.
        """
        asked: dict[type[RuleBlock], Any] = {}
        for kind, ask in self._questions(file).items():
            asked[kind] = None
            with self._failure_logged(kind.__name__):
                asked[kind] = await self._answer(ask)
        found: dict[str, list[Finding] | None] = dict.fromkeys(file.rules)
        for name, rule in file.rules.items():
            with self._failure_logged(name):
                found[name] = self._of(rule, view, asked.get(type(rule)))
        return found

    @contextlib.contextmanager
    def _failure_logged(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            if what not in self._failing:
                log.exception("rule_not_judged", rule=what)
            self._failing.add(what)
        else:
            self._failing.discard(what)

    def _questions(self, file: AlarmFile) -> dict[type[RuleBlock], Callable[[], Awaitable[Any]]]:
        """The questions that any rule needs answered, each asked once."""
        every: dict[type[RuleBlock], Callable[[], Awaitable[Any]]] = {
            FailureRate: lambda: self._count(file),
            AuditHole: self._holes,
            WatchdogRestarts: lambda: asyncio.to_thread(StateFolder.at(self._settings.home).watchdog_restarts),
            RunFailed: lambda: self._rows(_LATEST_RUNS),
            Drift: lambda: self._rows(_DRIFT),
        }
        wanted = {type(rule) for rule in file.rules.values()}
        return {kind: ask for kind, ask in every.items() if kind in wanted}

    async def _answer(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await ask()
        except KafkaException:
            return None
        except Exception as error:
            if is_unavailable(error):
                return None
            raise

    def _of(self, rule: RuleBlock, view: SystemLag, answer: Any) -> list[Finding] | None:
        match rule:
            case LagSeconds() | VerdictIs():
                return None if view.away_since is not None else of_groups(rule, view, self._settings)
            case KafkaAway():
                return of_broker(view)
        if answer is None:
            return None
        match rule:
            case FailureRate():
                return of_failures(rule, answer)
            case AuditHole():
                return of_audit(answer)
            case WatchdogRestarts():
                return of_restarts(rule, answer, time.time())
            case RunFailed():
                return of_runs(rule, answer)
            case Drift():
                return of_drift(rule, answer)
        raise AssertionError(f"a rule of an unknown kind: {rule!r}")

    async def _rows(self, query: Any) -> Sequence[Any]:
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).all()

    async def _count(self, file: AlarmFile) -> list[tuple[float, Counts]]:
        """The counts now, and those of the longest window that a rule looks at."""
        datasets = raw_topics(self._settings)
        counts: dict[str, tuple[int, int]] = {}
        for topic, stored, bad in await self._rows(_OUTCOMES):
            if dataset := datasets.get(topic.partition("@")[0]):
                known = counts.get(dataset.name, (0, 0))
                counts[dataset.name] = known[0] + stored, known[1] + bad
        now = time.monotonic()
        self._history.append((now, counts))
        longest = max(rule.window_seconds for rule in file.rules.values() if isinstance(rule, FailureRate))
        while len(self._history) > 1 and self._history[1][0] <= now - longest:
            self._history.popleft()
        return list(self._history)

    async def _holes(self) -> list[PartitionAudit]:
        if self._audit is None or time.monotonic() - self._audited_at >= AUDIT_EVERY_SECONDS:
            # The one before stays in sight meanwhile: metrics are scraped at any time.
            try:
                self._audit = await audit(self._settings, self._engine)
            except BaseException:
                self._audit = None
                raise
            self._audited_at = time.monotonic()
        return self._audit


def of_groups(rule: LagSeconds | VerdictIs, view: SystemLag, settings: Settings) -> list[Finding]:
    """Groups that are too far behind, or have a bad verdict. Pure."""
    prefix = settings.named("")
    found = []
    for group in view.groups:
        name = group.group.removeprefix(prefix) if group.ours else group.group
        if (group.ours or rule.others) and rule.concerns(group.group, name):
            # Kafka takes a NUL character in the name of a group; Postgres, where alarms are kept, does not.
            told = name.replace("\x00", "\N{REPLACEMENT CHARACTER}")
            finding = _behind(rule, group, told) if isinstance(rule, LagSeconds) else _judged(rule, group, told)
            if finding:
                found.append(finding)
    return found


def _behind(rule: LagSeconds, group: GroupView, name: str) -> Finding | None:
    if group.seconds is None or group.seconds <= rule.above:
        return None
    drain = "" if group.drain_seconds is None else f"; caught up in {group.drain_seconds:,.0f} s at this rate"
    text = f"{name} is {group.seconds:,.0f} s behind (bound: {rule.above:g} s), {group.waiting:,} records wait{drain}"
    return Finding(name, text, group.seconds)


def _judged(rule: VerdictIs, group: GroupView, name: str) -> Finding | None:
    verdict = str(group.verdict)
    return Finding(name, f"{name}: {verdict}, {group.reason}", verdict) if verdict in rule.verdicts else None


def of_broker(view: SystemLag) -> list[Finding]:
    """The broker, if it is away. Pure."""
    if view.away_since is None:
        return []
    since = datetime.fromtimestamp(view.away_since, UTC).isoformat(timespec="seconds")
    return [Finding("kafka", f"Kafka has not answered since {since}", since)]


def of_failures(rule: FailureRate, history: Sequence[tuple[float, Counts]]) -> list[Finding]:
    """Datasets of whose latest records too many have failed. `history` in order of time, the last is now. Pure."""
    now, latest = history[-1]
    earlier = [counts for at, counts in history if at <= now - rule.window_seconds]
    before = earlier[-1] if earlier else history[0][1]
    found = []
    for dataset, (stored, bad) in latest.items():
        known = before.get(dataset, (0, 0))
        new, failed = max(0, stored + bad - sum(known)), max(0, bad - known[1])
        if new >= rule.records and failed * 100 > rule.above_percent * new and _any(rule.datasets, dataset):
            percent = round(100 * failed / new, 1)
            text = (
                f"{percent:g} % of the latest {new:,} records of {dataset} failed or are held "
                f"(bound: {rule.above_percent:g} %)"
            )
            found.append(Finding(dataset, text, percent))
    return found


def of_audit(partitions: Iterable[PartitionAudit]) -> list[Finding]:
    """Raw partitions with records that nobody will bring any more, or that are counted twice. Pure."""
    found = []
    for one in partitions:
        lost = sum(end - begin for begin, end in one.holes)
        parts = [
            f"{number:,} {what}"
            for number, what in (
                (lost, "lost"),
                (one.expired, "deleted by Kafka before they were stored"),
                (one.unprovable, "that nobody can prove"),
                (one.beyond, "that are booked and not in Kafka"),
            )
            if number
        ]
        parts += [] if one.balanced else ["a count of outcomes that does not match the records"]
        if parts:
            place = f"{one.topic}/{one.partition}"
            found.append(Finding(place, f"the audit of {place} finds {', '.join(parts)}", lost + one.expired))
    return found


def of_restarts(rule: WatchdogRestarts, lines: Iterable[Mapping[str, str]], now: float) -> list[Finding]:
    """Groups whose processes the watchdog has restarted too often. Pure."""
    times: dict[str, int] = {}
    for line in lines:
        if datetime.fromisoformat(line["at"]).timestamp() > now - rule.window_seconds:
            times[line["group"]] = times.get(line["group"], 0) + 1
    return [
        Finding(group, f"the watchdog restarted {group} {number} times within {rule.window_seconds:g} s", number)
        for group, number in times.items()
        if number > rule.above
    ]


def of_runs(rule: RunFailed, rows: Iterable[Any]) -> list[Finding]:
    """Sources whose latest run failed. Pure."""
    return [
        Finding(source, f"the latest run of {source} failed: {(reason or 'no reason')[:LONGEST_REASON]}", "failed")
        for source, status, reason in rows
        if status == "failed" and _any(rule.sources, source)
    ]


def of_drift(rule: Drift, rows: Iterable[Any]) -> list[Finding]:
    """Fields that have drifted. Pure."""
    return [
        Finding(
            f"{source}/{dataset}.{field}",
            f"{source} has {what} the field {field} of {dataset}"
            + (f"; such records fail with {reason}" if reason else ""),
            what,
        )
        for source, dataset, field, what, reason in rows
        if (reason is not None or not rule.breaking_only) and _any(rule.sources, source)
    ]


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
