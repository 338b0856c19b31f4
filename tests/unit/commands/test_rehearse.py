"""`headrace rehearse` says what it does, and does nothing that nobody would notice."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.rehearse import rehearse
from rehearsals import file as rehearsals

NORMALIZER = ("--stage", "normalizer", "--kind", "invalid", "--source", "titanic", "--percent", "5", "--for", "60s")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("REHEARSALS", "true")
    return tmp_path


def call(*words: str, expect: int = 0) -> str:
    done = CliRunner().invoke(rehearse, words)
    assert done.exit_code == expect, done.output
    return done.output


def test_a_rehearsal_is_begun_shown_and_stopped(home: Path) -> None:
    assert "normalizer invalid, 5 % of records of titanic" in call(*NORMALIZER)
    [shown] = json.loads(call("status", "--json"))
    assert (shown["stage"], shown["source"], shown["ends_at"] - shown["started_at"]) == ("normalizer", "titanic", 60)
    assert shown["id"] in call("status")
    assert json.loads(call("stop", "--json"))[0]["id"] == shown["id"]
    assert "Nothing" in call("status")


def test_a_rehearsal_strikes_every_batch_unless_a_share_is_given(home: Path) -> None:
    assert json.loads(call("--stage", "postgres", "--kind", "outage", "--json"))["percent"] == 100
    slow = json.loads(call("--stage", "redis", "--kind", "slow", "--delay", "200ms", "--json"))
    assert (slow["percent"], slow["delay_seconds"]) == (100, 0.2)


@pytest.mark.parametrize(
    "words",
    [
        ("--stage", "normalizer"),
        ("--kind", "slow"),
        ("--stage", "redis", "--kind", "invalid"),
        ("--stage", "postgres", "--kind", "slow", "--for", "2h"),
        ("--stage", "postgres", "--kind", "slow", "--for", "soon"),
        ("--stage", "postgres", "--kind", "slow", "--percent", "0"),
        ("stop", "nobody"),
    ],
)
def test_wrong_usage_is_told_and_begins_nothing(home: Path, words: tuple[str, ...]) -> None:
    call(*words, expect=2)
    assert rehearsals.running(home) == []


def test_a_rehearsal_is_refused_while_rehearsals_are_not_enabled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REHEARSALS", "false")
    assert "REHEARSALS=true" in call(*NORMALIZER, expect=1)
    assert rehearsals.running(home) == []
