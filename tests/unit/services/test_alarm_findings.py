"""Each kind of rule finds what it is about, names the value and the bound, and nothing else."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from local_stack.state_folder import StateFolder
from monitoring.alarm_file import (
    AlarmFile,
    Drift,
    FailureRate,
    KafkaAway,
    LagSeconds,
    RunFailed,
    VerdictIs,
    WatchdogRestarts,
)
from monitoring.verdicts import Verdict
from runtime.settings import Settings
from services.alarms.findings import (
    Findings,
    of_audit,
    of_broker,
    of_drift,
    of_failures,
    of_groups,
    of_restarts,
    of_runs,
)
from services.audits.audit import PartitionAudit

SETTINGS = Settings(headrace_namespace="ns")


def group(name: str, *, ours: bool = True, seconds: float | None = 0.0, verdict: Verdict = Verdict.OK) -> Any:
    return SimpleNamespace(
        group=name, ours=ours, seconds=seconds, verdict=verdict, waiting=1234, reason="why", drain_seconds=3.0
    )


def view(*groups: Any, away_since: float | None = None) -> Any:
    return SimpleNamespace(groups=groups, away_since=away_since)


def test_a_group_is_behind_when_its_oldest_record_is_older_than_the_bound() -> None:
    rule = LagSeconds(when="lag_seconds", above=300)
    seen = view(
        group("ns.sink-redis", seconds=301.0),
        group("ns.normalizer", seconds=300.0),
        group("ns.relay", seconds=None),
        group("theirs", ours=False, seconds=9000.0),
    )
    [found] = of_groups(rule, seen, SETTINGS)
    assert (found.subject, found.value) == ("sink-redis", 301.0)
    assert found.text == (
        "sink-redis is 301 s behind (bound: 300 s), 1,234 records wait; caught up in 3 s at this rate"
    )
    everybody = rule.model_copy(update={"others": True})
    assert [one.subject for one in of_groups(everybody, seen, SETTINGS)] == ["sink-redis", "theirs"]
    assert not of_groups(rule.model_copy(update={"groups": ("normalizer",)}), seen, SETTINGS)


def test_a_verdict_is_found_if_the_rule_names_it() -> None:
    seen = view(group("ns.a", verdict=Verdict.STOP), group("ns.b", verdict=Verdict.WARN), group("ns.c"))
    rule = VerdictIs(when="verdict")
    assert [(one.subject, one.value, one.text) for one in of_groups(rule, seen, SETTINGS)] == [
        ("a", "STOP", "a: STOP, why")
    ]
    rule = VerdictIs(when="verdict", verdicts=("WARN",))
    assert [one.subject for one in of_groups(rule, seen, SETTINGS)] == ["b"]


def test_a_name_with_a_nul_character_is_told_as_postgres_takes_it() -> None:
    seen = view(group("the\x00irs", ours=False, seconds=9.0, verdict=Verdict.STOP))
    rules = LagSeconds(when="lag_seconds", above=1, others=True), VerdictIs(when="verdict", others=True)
    for rule in rules:
        [found] = of_groups(rule, seen, SETTINGS)
        assert found.subject == "the\ufffdirs"
        assert "\x00" not in found.text


def test_a_broker_that_is_away_is_found_with_the_time() -> None:
    assert not of_broker(view())
    [found] = of_broker(view(away_since=0.0))
    assert (found.subject, found.text) == ("kafka", "Kafka has not answered since 1970-01-01T00:00:00+00:00")


def test_a_failure_rate_is_that_of_the_window() -> None:
    rule = FailureRate(when="failure_rate", above_percent=20, records=100, window_seconds=60)
    before = {"customers": (10_000, 5_000), "orders": (0, 0)}
    now = {"customers": (10_079, 5_021), "orders": (10, 50)}
    [found] = of_failures(rule, [(0.0, {"customers": (0, 0)}), (40.0, before), (100.0, now)])
    assert (found.subject, found.value) == ("customers", 21.0)
    assert found.text == "21 % of the latest 100 records of customers failed or are held (bound: 20 %)"
    assert not of_failures(rule, [(40.0, before), (100.0, {"customers": (10_080, 5_020)})]), "the bound is allowed"
    assert not of_failures(rule, [(40.0, before), (100.0, {"customers": (10_000, 4_000)})]), "failures were retried"
    assert not of_failures(rule, [(100.0, now)]), "what was there before anybody looked is no news"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"holes": ((3, 5), (9, 10))}, "the audit of customers.raw/2 finds 3 lost"),
        ({"expired": 4}, "the audit of customers.raw/2 finds 4 deleted by Kafka before they were stored"),
        ({"unprovable": 1}, "the audit of customers.raw/2 finds 1 that nobody can prove"),
        ({"balanced": False}, "the audit of customers.raw/2 finds a count of outcomes that does not match the records"),
        ({"outcomes": {"held": 9}, "in_flight": 7}, None),
    ],
)
def test_the_audit_finds_what_nobody_will_bring(row: dict[str, Any], text: str | None) -> None:
    known: dict[str, Any] = {"in_flight": 0, "holes": (), "outcomes": {}}
    audited = PartitionAudit("customers.raw", 2, 0, 10, 7, **(known | row))
    assert [one.text for one in of_audit([audited])] == ([text] if text else [])


def test_restarts_are_counted_within_the_window() -> None:
    now = 100_000.0
    lines = [
        {"at": datetime.fromtimestamp(now - ago, UTC).isoformat(timespec="seconds"), "group": name}
        for ago, name in ((10, "sink-redis"), (20, "sink-redis"), (4000, "sink-redis"), (10, "normalizer"))
    ]
    rule = WatchdogRestarts(when="watchdog_restarts", above=1)
    [found] = of_restarts(rule, lines, now)
    assert (found.subject, found.value) == ("sink-redis", 2)


def test_the_latest_run_of_a_source_decides() -> None:
    rows = [("shop", "failed", "no answer"), ("feed", "success", None), ("letters", "failed", None)]
    found = of_runs(RunFailed(when="run_failed", sources=("s*", "f*")), rows)
    assert [(one.subject, one.text) for one in found] == [("shop", "the latest run of shop failed: no answer")]


def test_a_drift_that_fails_records_is_told_and_others_if_asked_for() -> None:
    rows = [("shop", "records", "name", "lost", "missing_field"), ("shop", "records", "colour", "gained", None)]
    [found] = of_drift(Drift(when="drift"), rows)
    assert found.subject == "shop/records.name"
    assert found.text == "shop has lost the field name of records; such records fail with missing_field"
    assert len(of_drift(Drift(when="drift", breaking_only=False), rows)) == 2


async def test_the_audit_before_stays_in_sight_until_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    first = PartitionAudit("customers.raw", 0, 0, 1, 1, in_flight=0, holes=(), outcomes={})
    answers: list[Any] = [[first]]
    seen: list[Any] = []

    async def audited(*_: Any) -> Any:
        seen.append(findings.audited)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("services.alarms.findings.audit", audited)
    findings = Findings(SETTINGS, cast("AsyncEngine", None))
    assert await findings._holes() == [first]
    answers += [OSError("away"), []]
    findings._audited_at -= 61
    with pytest.raises(OSError, match="away"):
        await findings._holes()
    assert findings.audited == [], "nobody knows what is missing now"
    assert await findings._holes() == []
    assert seen == [[], [first], []]


async def test_a_rule_that_cannot_be_looked_at_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {
        "restarts": WatchdogRestarts(when="watchdog_restarts"),
        "runs": RunFailed(when="run_failed"),
        "away": KafkaAway(when="kafka_away"),
    }
    # No line of the watchdog's, and an engine that is none.
    monkeypatch.setattr(StateFolder, "watchdog_restarts", lambda _: [{"at": "no time", "group": "relay"}])
    findings = Findings(SETTINGS, cast("AsyncEngine", None))
    file = AlarmFile(rules=rules, targets={})
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            found = await findings.look(file, view(away_since=0.0))
            assert (found["restarts"], found["runs"]) == (None, None)
            assert [one.subject for one in found["away"] or ()] == ["kafka"]
    assert [line["rule"] for line in logs if line["event"] == "rule_not_judged"] == ["RunFailed", "restarts"]
