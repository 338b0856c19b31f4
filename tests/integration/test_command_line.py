"""Whatever stands in a command's way is told in a line: no command shows a traceback."""

import importlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import typer
from tenacity import stop_after_attempt

import runtime.kafka.topic_admin
import stores.migrate
from commands.command_line import PANELS, _run, prepared, summary

PROJECT = Path(__file__).parents[2]
NOWHERE = {
    "DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/nothing",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "ELASTICSEARCH_URL": "http://127.0.0.1:1",
    "API_URL": "http://127.0.0.1:1",
    "MOCK_URL": "http://127.0.0.1:1",
    "SOURCES_FILE": "sources.toml",
}
ASKS_POSTGRES = [
    ["stats"], ["reset", "a", "--yes"], ["setup"], ["failures", "list"], ["failures", "show", "1"],
    ["failures", "edit", "1", "--set", "a=b"], ["failures", "discard", "1", "--reason-text", "x"],
    ["failures", "retry", "1"], ["failures", "release", "--source", "a"], ["failures", "jobs"],
    ["reprocess", "customers"],
]  # fmt: skip
ASKS_KAFKA = [["lag"], ["lag", "--json"], ["topics"], ["audit"], ["audit", "--deep"], ["recover"]]
ASKS_A_STACK = [["restart"], ["scale", "normalizer=2"], ["status"], ["logs"], ["env"], ["watchdog"], ["rehearse"]]
WRONG = [
    ["scale", "normalizer=99999"], ["scale", "normalizer=" + "9" * 5000], ["scale", "normalizer=\u0663"],
    ["scale", "x=1"],
    ["run", "nosuch"], ["publish", "nosuch"], ["push", "nosuch", "-"], ["push", "customers", "no/such/file"],
    ["export", "nosuch", "--to", "x"], ["logs", "nosuch"], ["restart", "nosuch"], ["up", "--brokers", "4"],
    ["reprocess", "nosuch"], ["reprocess", "customers", "--since", "x"], ["recover", "--since", "x"],
    ["sink", "nosuch"], ["nosuch"], ["failures", "nosuch"], ["failures", "show", "0"], ["lag", "--interval", "x"],
    ["rehearse", "--stage", "normalizer", "--kind", "crash", "--for", "9h"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _without_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sources.toml").write_text("")
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(stores.migrate._migrate.retry, "stop", stop_after_attempt(1))
    monkeypatch.setattr(runtime.kafka.topic_admin, "REQUEST_TIMEOUT_SECONDS", 0.2)


def outcome(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and stderr. An exception that a user would see as a traceback fails the test by itself."""
    code = prepared(arguments)()
    return code, capsys.readouterr().err


@pytest.mark.parametrize("arguments", ASKS_POSTGRES, ids=" ".join)
def test_a_postgres_that_is_not_there_is_named_with_the_way_out(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = outcome(arguments, capsys)
    assert code == 1
    assert "Postgres at postgresql://***@127.0.0.1:1/nothing does not answer" in told
    assert "`headrace status`" in told


@pytest.mark.parametrize("arguments", ASKS_KAFKA, ids=" ".join)
def test_a_kafka_that_is_not_there_is_named_with_the_way_out(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = outcome(arguments, capsys)
    assert code == 1
    assert "Kafka at 127.0.0.1:1 does not answer" in told


@pytest.mark.parametrize("arguments", ASKS_A_STACK, ids=" ".join)
def test_commands_fail_in_a_line_where_there_is_no_stack(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(arguments, capsys)[0] in {1, 2}


@pytest.mark.parametrize("arguments", WRONG, ids=lambda words: " ".join(words)[:40])
def test_wrong_usage_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, told = outcome(arguments, capsys)
    assert code in {1, 2}
    assert told.strip()


def test_scale_names_the_most_workers_that_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Give 1 to 100" in outcome(["scale", "normalizer=99999"], capsys)[1]


@pytest.mark.parametrize("command", ["run", "publish", "reset"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"[[", b"sources = 1"])
def test_a_sources_file_that_cannot_be_read_is_named(
    command: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sources.toml").unlink()
    if content is not None:
        (tmp_path / "sources.toml").write_bytes(content)
    code, told = outcome([command, "a", *(["--yes"] if command == "reset" else [])], capsys)
    assert code in {1, 2}
    assert ("sources.toml" in told) == (command != "reset")


@pytest.mark.parametrize("command", ["status", "env", "push", "setup"])
def test_an_env_file_that_is_no_utf_8_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_bytes(b"API_KEY=\xff\xfe\n")
    code, told = outcome([command, "customers", "-"][: 3 if command == "push" else 1], capsys)
    assert code == 2
    assert f"{tmp_path / '.env'} cannot be read" in told


@pytest.mark.parametrize("command", ["status", "up", "clean", "env", "logs", "restart"])
def test_a_file_in_the_place_of_the_state_folder_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").write_text("a file")
    code, told = outcome([command, *(["--yes"] if command == "clean" else [])], capsys)
    assert code in {1, 2}
    assert "home" in told


def test_the_help_page_says_of_each_command_what_its_own_help_begins_with() -> None:
    for name in [name for names in PANELS.values() for name in names]:
        module = name.replace("-", "_")
        command = getattr(importlib.import_module(f"commands.{module}"), module)
        if isinstance(command, typer.Typer):
            callback = command.registered_callback.callback if command.registered_callback else None
            said = callback.__doc__ if callback else command.info.help
        else:
            said = command.__doc__
        assert summary(module) == str(said).partition("\n\n")[0], name
        assert summary(module)


def stopped() -> NoReturn:
    raise KeyboardInterrupt


def stopped_while_following() -> None:
    try:
        stopped()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def stopped_and_told() -> None:
    try:
        stopped()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def stopped_at_a_question() -> None:
    try:
        stopped()
    except KeyboardInterrupt:
        raise typer.Abort from None


@pytest.mark.parametrize(
    ("command", "code"),
    [(stopped, None), (stopped_at_a_question, None), (stopped_while_following, 0), (stopped_and_told, 130)],
)
def test_ctrl_c_is_reported_unless_the_command_has_reported_it(command: Callable[[], None], code: int | None) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    if code is None:
        with pytest.raises(KeyboardInterrupt):  # which cli.py tells
            _run(app, [], explaining=True)
    else:
        assert _run(app, [], explaining=True) == code


def interrupted(command: list[str], awaited: str) -> tuple[int, str]:
    """Exit code and what is said after SIGINT was sent at the moment when `awaited` is on stderr."""
    words = [sys.executable, *command]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if awaited in line:
                break
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    return process.returncode, told


@pytest.mark.parametrize("module", ["typer", "pydantic_core", "sqlalchemy.sql"])
def test_ctrl_c_while_modules_are_loaded_is_no_traceback(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    code, told = interrupted(["-X", "importtime", "-m", "cli", "stats"], module)
    assert (code, "Traceback" in told, "Interrupted" in told) == (130, False, True)


def test_ctrl_c_while_a_command_waits_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    code, told = interrupted(["-m", "cli", "setup"], "Waiting for Postgres")
    assert (code, told) == (130, "Interrupted\n")
