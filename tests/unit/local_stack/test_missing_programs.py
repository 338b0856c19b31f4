"""A machine that lacks something: what runs all the same, and what the message says to do."""

from pathlib import Path

import pytest

from local_stack import java, redis
from local_stack.addresses import DEFAULT_PORTS, addresses_of
from local_stack.errors import StackError
from local_stack.installations import find_installations
from local_stack.java import Jdk
from local_stack.processes import server_processes
from local_stack.programs import port_defaults, role_instances
from local_stack.state_folder import StackRecord, StateFolder, require_space
from local_stack.summary import Counts, summary_lines


def with_jdks(monkeypatch: pytest.MonkeyPatch, *majors: int) -> None:
    monkeypatch.setattr(java, "_installed", lambda: tuple(Jdk(Path(f"/jdk-{major}"), major) for major in majors))


def test_without_a_jdk_21_elasticsearch_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with_jdks(monkeypatch, 17)
    found = find_installations({"elasticsearch"})
    assert found.elasticsearch is None
    assert found.without == {"elasticsearch": "no JDK 21 or newer was found"}


def test_without_a_redis_the_reason_says_what_was_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis, "find_spec", lambda _: None)
    found = find_installations({"redis"})
    assert found.redis is None
    assert "neither redis-server nor valkey-server is on PATH" in found.without["redis"]


@pytest.mark.parametrize(
    ("server", "instead"),
    [("redis", "reads come from Postgres"), ("elasticsearch", "search answers from Postgres")],
)
def test_the_summary_says_what_is_not_there_and_what_happens_instead(server: str, instead: str, tmp_path: Path) -> None:
    ports = {variable: 1000 + number for number, variable in enumerate(DEFAULT_PORTS | port_defaults())}
    passwords = {"postgres": "pass-word", "redis": "pass-word"}
    record = StackRecord(ports=ports, without={server: "no such luck"}, passwords=passwords)
    lines = summary_lines(StateFolder.at(tmp_path), record, Counts({}, None))
    assert f"none (no such luck): {instead}" in next(line for line in lines if line.strip().startswith(server.title()))
    assert not any("pass-word" in line for line in lines), "the block ends in logs"
    assert addresses_of(record)[f"{server.upper()}_URL"] == "none"
    assert server not in {one.name for one in server_processes(record)}
    assert f"sink-{server}" not in {one.name for one in role_instances(record)}


def test_without_any_jdk_kafka_cannot_run_and_the_message_names_the_jdk(monkeypatch: pytest.MonkeyPatch) -> None:
    with_jdks(monkeypatch, 11)
    with pytest.raises(StackError, match="JDK 17"):
        find_installations({"kafka"})


def test_without_maven_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HEADRACE_SERVERS", str(tmp_path / "servers"))
    with_jdks(monkeypatch, 17)
    with pytest.raises(StackError, match="Maven"):
        find_installations({"kafka"})


def test_maven_runs_on_the_jdk_that_was_found_whatever_java_home_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maven = tmp_path / "mvn"
    maven.write_text('#!/bin/sh\necho "it runs on $JAVA_HOME in $LC_ALL"\nexit 1\n')
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HEADRACE_SERVERS", str(tmp_path / "servers"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    with_jdks(monkeypatch, 17)
    with pytest.raises(StackError, match=r"it runs on /jdk-17 in (?!tr_TR)"):
        find_installations({"kafka"})


def test_a_full_disk_is_said_before_a_server_dies_of_it(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "there" / "yet", required_bytes=1)
    with pytest.raises(StackError, match="The disk is full") as refusal:
        require_space(tmp_path / "not" / "there" / "yet", required_bytes=1 << 60)
    assert "HEADRACE_HOME" in str(refusal.value)


def test_a_jdk_says_its_version_in_its_own_file_and_is_asked_only_where_it_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def said_by(javac: Path) -> str:
        asked.append(javac.parent.parent.name)
        return "javac 21.0.2"

    monkeypatch.setattr(java, "_said_by", said_by)
    for name, release in (("told", 'IMPLEMENTOR="X"\nJAVA_VERSION="25.0.1"\n'), ("silent", None), ("odd", "nothing")):
        programs = tmp_path / name / "bin"
        programs.mkdir(parents=True)
        for program in ("java", "javac"):
            (programs / program).touch()
        if release is not None:
            (tmp_path / name / "release").write_text(release)
    assert java._inspect(tmp_path / "told") == Jdk(tmp_path / "told", 25)
    assert java._inspect(tmp_path / "silent") == Jdk(tmp_path / "silent", 21)
    assert java._inspect(tmp_path / "odd") == Jdk(tmp_path / "odd", 21)
    assert asked == ["silent", "odd"]
