"""Settings: where they come from, and what a wrong one says."""

import datetime
import socket
from pathlib import Path

import pytest

from runtime.errors import SettingsError
from runtime.settings import A_CENTURY, Settings, load_settings


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


def test_the_environment_wins_over_env_files_and_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "stack.env").write_text("API_PORT=1001\nMOCK_PORT=1002\nREDIS_URL=redis://stack\n")
    (tmp_path / ".env").write_text("API_PORT=2001\nMOCK_PORT=2002\n")
    monkeypatch.setenv("API_PORT", "3001")
    settings = load_settings()
    assert (settings.api_port, settings.mock_port, settings.plain_redis_url) == (3001, 2002, "redis://stack")


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_the_stack_in_containers_has_addresses_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "stack.env").write_text("REDIS_URL=redis://native\n")
    (tmp_path / ".headrace" / "compose.env").write_text("REDIS_URL=redis://containers\n")
    assert load_settings().plain_redis_url == "redis://native"
    if place == ".env":
        (tmp_path / ".env").write_text("HEADRACE_STACK=docker\n")
    else:
        monkeypatch.setenv("HEADRACE_STACK", "docker")
    assert load_settings().plain_redis_url == "redis://containers"
    assert load_settings().headrace_stack == "docker"


def test_the_stack_of_another_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "stack.env").write_text("API_PORT=1234\n")
    monkeypatch.setenv("HEADRACE_HOME", str(home))
    assert load_settings().api_port == 1234


@pytest.mark.parametrize("name", ["HEADRACE_HOME", "headrace_home"])
def test_the_stack_of_a_home_that_is_named_in_the_env_file_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "stack.env").write_text("API_PORT=1234\n")
    (tmp_path / ".env").write_text(f"{name}=elsewhere\n")
    settings = load_settings()
    assert (settings.home, settings.api_port) == (Path("elsewhere"), 1234)


def _is_number(name: str) -> bool:
    return any(kind in str(Settings.model_fields[name].annotation) for kind in ("int", "float"))


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields if _is_number(name)])
@pytest.mark.parametrize("value", ["99999999999999999999", "1e308", "inf", "nan", "-1", "5 x", "''"])
def test_a_number_that_some_client_or_clock_could_not_hold_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_the_longest_times_fit_every_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        if name.endswith(("_hours", "_days")):
            monkeypatch.setenv(name.upper(), str(A_CENTURY * (24 if name.endswith("_hours") else 1)))
    settings = load_settings()
    hours = settings.lag_history_hours
    assert datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours)
    assert 4 * hours * 3_600_000 < 2**63
    assert hours * 3_600 * 10**9 < 2**63, "Elasticsearch counts nanoseconds"
    assert max(hours, settings.landing_retention_days) < 2**31, "Postgres' intervals"


@pytest.mark.parametrize(("given", "meant"), [("[::1]", "::1"), ("localhost", "localhost"), ("0.0.0.0", "0.0.0.0")])  # noqa: S104
def test_an_address_to_listen_on_may_be_written_as_in_a_url(given: str, meant: str) -> None:
    assert load_settings(api_bind=given).api_bind == meant


def test_names_of_hosts_are_compared_as_browsers_send_them() -> None:
    settings = load_settings(allowed_hosts="API.Example.org, *", dashboard_hosts="*.Example.org,10.0.0.1")
    assert settings.allowed_hosts == "api.example.org, *"
    assert settings.dashboard_hosts == "*.example.org,10.0.0.1"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("API_PORT", "eighty"),
        ("TOPIC_PARTITIONS", "0"),
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", "postgresql://u:p@host:port/db"),
        ("LOG_LEVEL", "LOUD"),
        ("API_HOST", "127.0.0.1"),
        ("API_HOST", "ftp://host"),
        ("API_HOST", "http://host:0"),
        ("API_KEY", "two\nlines"),
        ("API_KEY", " padded"),
        ("CSV_URL", "ftp://host/file.csv"),
        ("ETL_INTERVAL", "-1"),
        ("ETL_INTERVAL", "often"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "10.0.0.1, ::/0"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "proxy.example.org"),
        ("API_READS_PER_MINUTE", "-1"),
        ("API_TLS_CERTIFICATE_FILE", "/nowhere.pem"),
        ("API_TLS_KEY_FILE", __file__),
        ("API_TLS_CERTIFICATE_FILE", "x" * 300),
        *((bind, "ü..x") for bind in ("API_BIND", "DASHBOARD_BIND", "MOCK_BIND", "HEALTH_BIND", "API_PUBLISHED_ON")),
        *(("API_BIND", value) for value in ("'127.0.0.1'", " ", "127.0.0.1:8000", "http://127.0.0.1", "*", "::1%/")),
        *(("CORS_ORIGINS", value) for value in ("app.example.org", "https://app.example.org/", "https://App.example")),
        ("CORS_ORIGINS", "https://a.example https://b.example"),
        *(("ALLOWED_HOSTS", value) for value in ("https://a.example", "a.example:8000", "a.example b.example")),
        *(("DASHBOARD_HOSTS", value) for value in ("https://a.example", "a.example:8090", "a*", "*a.example")),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load_settings()


def test_a_wrong_database_url_does_not_show_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://me:secret@host/db")
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(("variable", "value"), [
    ("DATABASE_URL", "postgresql://me:pass-word@host/db"),
    ("REDIS_URL", "redis://me:pass-word@host/0"),
    ("REDIS_URL", "redis://host/0?password=pass-word"),
    ("ELASTICSEARCH_URL", "http://me:pass-word@host:9200"),
    ("API_HOST", "https://me:pass-word@host"),
    ("CSV_URL", "https://host/a.csv?token=pass-word"),
    ("EGRESS_PROXY", "http://me:pass-word@host:3128"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:pass-word@host"),
    ("API_KEY", "pass-word"),
    ("ELASTICSEARCH_API_KEY", "pass-word"),
    ("AWS_SECRET_ACCESS_KEY", "pass-word"),
    ("AWS_SESSION_TOKEN", "pass-word"),
])  # fmt: skip
def test_no_secret_is_shown_where_settings_are(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert all("pass-word" not in shown for shown in (repr(settings), str(settings)))


@pytest.mark.parametrize(("variable", "value"), [
    ("REDIS_URL", "http://me:pass-word@host/0"),
    ("ELASTICSEARCH_URL", "ftp://me:pass-word@host:9200"),
    ("API_HOST", "ftp://me:pass-word@host"),
    ("API_HOST", "me:pass-word@host"),
    ("CSV_URL", "ftp://host/a.csv?token=pass-word"),
    ("EGRESS_PROXY", "socks://me:pass-word@host:3128"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://me:pass-word@host"),
    ("API_KEY", "pass-word\n"),
])  # fmt: skip
def test_a_wrong_value_is_refused_without_its_secret(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as refusal:
        load_settings()
    assert "pass-word" not in str(refusal.value)


@pytest.mark.parametrize("store", ["redis", "elasticsearch"])
def test_redis_and_elasticsearch_may_be_none(store: str) -> None:
    settings = load_settings(**{f"{store}_url": "none"})
    assert getattr(settings, f"{store}_url") is None
    assert settings.absent_stores == (store,)


def test_values_are_taken_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"API_HOST": "https://api.example/v1/", "LOG_LEVEL": "debug", "ETL_INTERVAL": "60"}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.api_host, settings.log_level, settings.etl_interval) == ("https://api.example/v1", "DEBUG", 60)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_the_database_url_is_read_whatever_driver_it_names(scheme: str) -> None:
    settings = load_settings(database_url=f"{scheme}://me:pw@host:1/db")
    assert settings.plain_database_url == "postgresql://me:pw@host:1/db"


def test_names_of_topics_and_indices_get_the_namespace_in_front() -> None:
    assert load_settings().named("customers.raw") == "customers.raw"
    assert load_settings(headrace_namespace="blue").named("customers.raw") == "blue.customers.raw"


def test_variables_of_other_programs_are_not_mistaken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("NAMESPACE", "somebody")
    assert (load_settings().home, load_settings().namespace) == (Path(".headrace"), "")


def test_a_worker_may_be_named_like_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_ID", "auto")
    assert load_settings().worker_id == socket.gethostname()
    monkeypatch.setenv("WORKER_ID", "3")
    assert load_settings().worker_id == "3"


@pytest.mark.parametrize(
    "line", ["API_PORT: 8001", "API_PORT 8001", "a sentence", 'API_KEY="never closed', "API_KEY='x' y", "=8001"]
)
def test_a_line_of_an_env_file_that_is_none_is_refused_with_its_place_and_without_its_text(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / ".env").write_text(f"MOCK_PORT=2002\n\n# a remark\n{line}\n")
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert str(refusal.value).startswith(f"{tmp_path / '.env'}, line 4: expected NAME=value")
    assert line not in str(refusal.value), "it may hold a secret"


@pytest.mark.parametrize(
    "line", ["", "# API_PORT 8001", "export MOCK_PORT=1", "EMPTY=", "BARE", "A = 'b c' # d", 'B="two\nlines"', "C=d e"]
)
def test_what_shells_and_compose_take_in_an_env_file_is_taken(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"{line}\nAPI_PORT=2001\n")
    assert load_settings().api_port == 2001
