"""`headrace logs` on the files of a stack."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from commands.logs import logs

APP = typer.Typer()
APP.command()(logs)


def ours(minute: int, event: str, level: str = "info", **fields: Any) -> str:
    said = {"event": event, "role": "x", "worker": "0", "level": level, "timestamp": f"2026-11-29T22:{minute:02}:00Z"}
    return json.dumps(fields | said)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    postgres = ["2026-11-29 22:10:00.000 UTC [1] LOG:  ready", "2026-11-29 22:40:00.000 UTC [1] ERROR:  no", "\tmore"]
    (folder / "postgres.log").write_text("\n".join(postgres) + "\n")
    lines = [ours(0, "started"), ours(20, "store_lost", "warning", store="Postgres"), ours(50, "request", status=500)]
    (folder / "api.log").write_text("\n".join(lines) + "\n")
    return tmp_path


def told(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(APP, list(arguments))
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def events(*arguments: str) -> list[str]:
    return [entry["event"] for entry in told(*arguments)]


@pytest.mark.usefixtures("home")
def test_all_processes_are_in_one_order_of_time_and_a_pipe_gets_json() -> None:
    assert events() == ["started", "ready", "store_lost", "no", "request"]
    [entry] = told("postgres", "-n", "1")
    assert entry == {
        "at": "2026-11-29T22:40:00Z", "process": "postgres", "level": "error", "event": "no", "more": ["\tmore"]
    }  # fmt: skip
    assert events("api", "--json") == ["started", "store_lost", "request"]
    assert events("-n", "0") == []
    assert events("-n", "1") == ["no", "request"], "the last of each"


@pytest.mark.usefixtures("home")
def test_entries_are_chosen_by_time_text_and_level() -> None:
    assert events("--since", "2026-11-29T22:20:00Z") == ["store_lost", "no", "request"]
    assert events("--since", "2026-11-29T22:20:00Z", "-n", "1") == ["no", "request"]
    assert events("--since", "1s") == []
    assert events("--level", "warning") == ["store_lost", "no"]
    assert events("--level", "WARN", "--grep", "postgres") == ["store_lost", "no"], "of the process, or in a field"
    assert events("--grep", "status=5..") == ["request"]
    assert events("--grep", "more$") == ["no"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--since", "soon"), "expected e.g. 30m"),
        (("--grep", "("), "is no regular expression"),
        (("--level", "loud"), "expected one of debug, info"),
        (("nobody",), "There are: api, postgres"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], words: str) -> None:
    done = CliRunner().invoke(APP, list(arguments))
    assert done.exit_code in (1, 2)
    assert words in done.output


def test_where_nothing_was_started_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "none"))
    done = CliRunner().invoke(APP, [])
    assert done.exit_code == 1
    assert "no stack has been started there yet" in done.output
