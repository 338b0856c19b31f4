"""`headrace env` gives scripts what they need, and shows nobody who looks over a shoulder a password."""

import json

import pytest

from commands import env as command
from commands.env import env

ADDRESSES = {
    "DATABASE_URL": "postgresql://headrace:pass-word@127.0.0.1:5432/headrace",
    "REDIS_URL": "redis://headrace:pass-word@127.0.0.1:6379/0",
    "API_URL": "http://127.0.0.1:8000",
}


@pytest.fixture(autouse=True)
def _a_stack_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_STACK", "docker")
    known = ADDRESSES | {"DATABASE_URL": f"{ADDRESSES['DATABASE_URL']}?sslmode=disable"}
    monkeypatch.setattr(command, "running_addresses", lambda: known)


def shown(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> dict[str, str]:
    text = capsys.readouterr().out
    found: dict[str, str] = json.loads(text) if as_json else dict(line.split("=", 1) for line in text.splitlines())
    return found


@pytest.mark.parametrize("as_json", [True, False])
def test_a_script_gets_passwords(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    env(as_json=as_json, secrets=False)
    assert shown(capsys, as_json=as_json) == ADDRESSES


@pytest.mark.parametrize("as_json", [True, False])
def test_a_terminal_gets_them_when_it_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    env(as_json=as_json, secrets=False)
    without = shown(capsys, as_json=as_json)
    assert without["DATABASE_URL"] == "postgresql://headrace@127.0.0.1:5432/headrace"
    assert without.keys() == ADDRESSES.keys()
    assert "pass-word" not in str(without)
    env(as_json=as_json, secrets=True)
    assert shown(capsys, as_json=as_json) == ADDRESSES
