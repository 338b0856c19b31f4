"""A name in .env that nearly is a setting's is told; those of other tools are not."""

import re
from pathlib import Path

import pytest

from commands.env_file import OTHERS, misspelt, warn_of_misspelt
from local_stack.addresses import DEFAULT_PORTS, cluster_ports
from runtime.settings import Settings

PROJECT = Path(__file__).parents[3]
KNOWN = {name.upper() for name in Settings.model_fields} | DEFAULT_PORTS.keys() | cluster_ports(5).keys() | OTHERS


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("DATABSE_URL", "DATABASE_URL"),
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_BOOTSTAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"),
        ("REDISURL", "REDIS_URL"),
        ("SOURCE_FILE", "SOURCES_FILE"),
        ("Api_Kye", "API_KEY"),
        ("HEADRACE_NAMSPACE", "HEADRACE_NAMESPACE"),
        ("HEADRACE_STATE", "HEADRACE_STACK"),
    ],
)
def test_a_misspelt_name_leads_to_the_one_that_is_meant(written: str, meant: str) -> None:
    assert misspelt([written], KNOWN) == {written: meant}


@pytest.mark.parametrize(
    "name", ["NODE_ENV", "POSTGRES_USER", "POSTGRES_DB", "REDIS_HOST", "DB_URL", "API_TOKEN", "SECRET_KEY", "log_level"]
)
def test_names_of_other_tools_and_of_settings_are_no_mistake(name: str) -> None:
    assert misspelt([name], KNOWN) == {}


def test_every_documented_variable_is_known() -> None:
    example = set(re.findall(r"^#([A-Z][A-Z0-9_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    compose = set(re.findall(r"\$\{([A-Z][A-Z0-9_]+)", (PROJECT / "docker-compose.yml").read_text()))
    assert len(example) > 40
    assert example | compose <= KNOWN


def test_a_variable_that_only_a_source_refers_to_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    warn_of_misspelt()
    (tmp_path / ".env").write_text("API_KEYS=a\nREDIS_URLS=b\n")
    (tmp_path / "sources.toml").write_text('[sources.a]\nurl = "${API_KEYS}"\n')
    warn_of_misspelt()
    told = capsys.readouterr().err
    assert "REDIS_URLS is no setting of Headrace and is not read; is REDIS_URL meant?" in told
    assert "API_KEYS" not in told
