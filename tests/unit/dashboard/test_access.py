import pytest
from starlette.requests import Request
from typer.testing import CliRunner

from commands.command_line import build_app
from dashboard.app import allowed_hosts
from dashboard.who import as_name, who_acts
from runtime.settings import Settings


def test_only_loopback_names_are_answered_unless_others_are_named() -> None:
    assert "evil.example" not in allowed_hosts(Settings())
    assert "ours.example" in allowed_hosts(Settings(dashboard_hosts="ours.example, other.example"))
    assert "*" not in allowed_hosts(Settings())


def test_it_does_not_listen_beyond_loopback_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commands.dashboard.serve", lambda *_, **__: pytest.fail("it listens"))
    done = CliRunner().invoke(build_app(["dashboard"]), ["dashboard", "--bind", "192.0.2.1"])
    assert done.exit_code == 1
    assert "DASHBOARD_HOSTS" in done.output


def test_a_name_is_fit_for_a_log_line() -> None:
    assert as_name("Ada Lovelace\n<x>") == "Ada-Lovelace-x"
    assert as_name("…") == ""
    request = Request({"type": "http", "headers": [(b"x-forwarded-user", b"ada@example.org")]})
    assert who_acts(request) == "ada-example.org"
    assert who_acts(Request({"type": "http", "headers": []}))
