"""Malformed addresses of servers end every process at its start, with a line that names the variable and the form."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import SettingsError
from runtime.server_addresses import check_http, check_kafka, check_postgres, check_redis, redacted
from runtime.settings import load_settings

PROJECT = Path(__file__).parents[3]

GOOD: dict[Callable[[str], str], list[str]] = {
    check_postgres: [
        *("postgresql://u:p@h:5432/db", "postgres://h/db", "postgresql+psycopg2://h", "postgresql://u:p%40@[::1]:1/db"),
    ],
    check_redis: [
        *("redis://h", "redis://h:6379/0", "rediss://u:p@h/15?ssl_cert_reqs=none", "redis://[::1]:1/", "unix:///run/r"),
        *("unix:///run/redis.sock?db=2", "redis://:secret@h:6379/0?protocol=3"),
    ],
    check_http: ["http://h:9200", "https://h", "http://u:p@h:1/path/", "http://[::1]:9200"],
    check_kafka: ["h:9092", "h", "a:1,b:2", "a:1, b:65535", "[::1]:9092", "127.0.0.1:9092"],
}
BAD: dict[Callable[[str], str], list[str]] = {
    check_postgres: [
        *("mysql://h/db", "h:5432/db", "postgresql//h", "postgresql://h:port/db", "postgresql://h:99999/db"),
        *(
            "postgresql://[::1/db",
            "postgresql://h:0/db",
            "postgresql://h\\n/db".replace("\\n", "\n"),
            "postgresql://a b/c",
        ),
    ],
    check_redis: [
        *("h:6379", "http://h:6379", "redis://", "redis://h:abc", "redis://h:99999", "redis://[::1", "redis://h/abc"),
        *("redis://h/0/1", "redis://h/-1", "redis://h?db=x", "redis://h?zz=1", "redis://h?socket_timeout=x", "unix://"),
        *("redis:/h", "redis://h#0", "redis://h:0", "redis://h:6379/0\t", ""),
    ],
    check_http: [
        *(
            "h:9200",
            "ftp://h:1",
            "http://",
            "http://:9200",
            "http://h:abc",
            "http://h:99999",
            "http://[::1",
            "http://h:-1",
        ),
        *("http//h:9200", "http://a b:9200", "http://h:9200?x=1", "http://h:9200#f", "http://h:0", "", "\x00"),
    ],
    check_kafka: [
        "",
        ",",
        "a:1,",
        "http://h:9092",
        "h:port",
        "h:0",
        "h:99999",
        "a b:1",
        "h:9092/x",
        ":9092",
        "a;b",
        "::1",
    ],
}


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in GOOD.items() for value in values])
def test_an_address_that_a_client_takes_is_accepted(check: Callable[[str], str], value: str) -> None:
    assert check(value) == value


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in BAD.items() for value in values])
def test_an_address_in_another_form_is_refused_and_told_the_right_one(check: Callable[[str], str], value: str) -> None:
    with pytest.raises(ValueError, match=r"expected|option"):
        check(value)


WRONG = {
    "REDIS_URL": ("h:6379", "expected redis://"),
    "ELASTICSEARCH_URL": ("http://h", "the port is missing"),
    "DATABASE_URL": ("postgresql://h:port/db", "expected postgresql://"),
    "KAFKA_BOOTSTRAP_SERVERS": ("http://h:9092", "expected host:port"),
    "API_URL": ("localhost:8000", "expected an address like http://host:port"),
    "MOCK_URL": ("localhost", "expected an address like http://host:port"),
    "AWS_ENDPOINT_URL": ("s3.example", "expected an address like http://host:port"),
}


@pytest.mark.parametrize(("variable", "wrong"), WRONG.items())
def test_a_wrong_address_is_refused_with_its_variable_and_the_right_form(
    variable: str, wrong: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value, form = wrong
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert variable in str(refusal.value)
    assert form in str(refusal.value)


@pytest.mark.parametrize(
    "command", [["-m", "uvicorn", "api.main:app"], ["-m", "cli", "lag"], ["-m", "cli", "sink", "redis"]]
)
def test_a_process_with_wrong_settings_ends_with_a_line_for_each_and_no_traceback(
    command: list[str], tmp_path: Path
) -> None:
    environment = {name: value for name, (value, _) in WRONG.items()}
    ended = subprocess.run(
        [sys.executable, *command],
        env={**environment, "PYTHONPATH": str(PROJECT), "HEADRACE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode not in {0, None}
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said
    assert all(variable in said for variable in WRONG)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@h:abc", "redis://***@h:abc"),
        ("http://me:se@cret@h", "http://***@h"),
        ("me:secret@h", "***@h"),
        ("redis//me:secret@h", "redis//***@h"),
        ("redis://h?password=secret&db=x", "redis://h?password=***&db=x"),
        ("h:6379", "h:6379"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted(url) == shown
