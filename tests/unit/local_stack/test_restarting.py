import os
from pathlib import Path

import pytest

from local_stack.addresses import DEFAULT_PORTS
from local_stack.errors import StackError
from local_stack.processes import outdated_text
from local_stack.programs import port_defaults, role_instances
from local_stack.settings_of_processes import (
    CODE,
    DATASETS,
    adopt_variables,
    changed,
    concerned,
    fingerprint,
    note_start,
    outdated,
    write_variables,
)
from local_stack.starting import choose
from local_stack.state_folder import StackRecord, StateFolder

COUNTS = {"normalizer": 2}
RECORD = StackRecord(DEFAULT_PORTS | port_defaults(COUNTS), counts=COUNTS)
INSTANCES = role_instances(RECORD)


def test_restart_takes_a_role_for_all_its_processes_and_no_name_for_all_of_ours() -> None:
    assert choose(RECORD, ["normalizer", "kafka"]) == ["kafka", "normalizer", "normalizer-1"]
    assert choose(RECORD, ["normalizer-1"]) == ["normalizer-1"]
    assert set(choose(RECORD, [])) == {one.name for one in INSTANCES}


def test_restarting_an_unknown_process_is_refused_with_the_known_names() -> None:
    with pytest.raises(StackError) as refused:
        choose(RECORD, ["api", "normaliser"])
    assert "'normaliser'" in str(refused.value)
    assert "normalizer-1" in str(refused.value)


def test_a_changed_setting_restarts_only_the_processes_that_read_it() -> None:
    assert concerned(["CORS_ORIGINS"], INSTANCES) == ["api"]
    assert concerned(["SHOP_SECRET"], INSTANCES) == ["api", "scheduler"]
    everybody = {one.name for one in INSTANCES}
    assert set(concerned(["FAILURE_LIMIT_PERCENT"], INSTANCES)) == set(concerned([DATASETS], INSTANCES)) == everybody
    assert concerned([], INSTANCES) == []


def test_changed_datasets_are_not_also_reported_as_changed_code() -> None:
    before = {"A": "1", "B": "1", CODE: "1", DATASETS: "1"}
    assert changed(before, {"A": "2", "C": "1", CODE: "1", DATASETS: "1"}) == ["A", "B", "C"]
    assert changed(before, before | {CODE: "2"}) == [CODE]
    assert changed(before, before | {CODE: "2", DATASETS: "2"}) == [DATASETS]


def test_the_fingerprint_covers_the_env_file_the_environment_and_variables_of_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(tmp_path)
    assert changed(before, fingerprint(tmp_path)) == []
    (tmp_path / "sources.toml").write_text('[sources.shop]\nsecret = "${SHOP_SECRET}"')
    (tmp_path / ".env").write_text("SHOP_SECRET=hunter2\nUNRELATED=1\n")
    monkeypatch.setenv("REPLAY_LIMIT", "7")
    now = fingerprint(tmp_path)
    assert changed(before, now) == ["REPLAY_LIMIT", "SHOP_SECRET"]
    assert "hunter2" not in str(now)


def test_a_process_takes_over_the_variables_of_the_latest_command_but_not_those_of_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateFolder(tmp_path)
    state.run.mkdir()
    monkeypatch.setenv("FAILURE_LIMIT_PERCENT", "0")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "elsewhere:1")
    monkeypatch.delenv("REPLAY_LIMIT", raising=False)
    write_variables(state, tmp_path)
    assert (state.run / "variables.json").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("FAILURE_LIMIT_PERCENT", "90")
    monkeypatch.setenv("REPLAY_LIMIT", "9")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "here:1")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    adopt_variables()
    assert os.environ["FAILURE_LIMIT_PERCENT"] == "90", "not a process of a stack"
    monkeypatch.setenv("HEADRACE_PROGRAM", "normalizer")
    adopt_variables()
    assert os.environ["FAILURE_LIMIT_PERCENT"] == "0"
    assert "REPLAY_LIMIT" not in os.environ
    assert os.environ["KAFKA_BOOTSTRAP_SERVERS"] == "here:1"


def test_a_process_that_runs_something_older_is_told_until_it_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateFolder(tmp_path)
    state.run.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    note_start()
    assert not list(state.run.iterdir()), "not a process of a stack"

    def start(name: str) -> None:
        with pytest.MonkeyPatch.context() as process:
            process.setenv("HEADRACE_PROGRAM", name)
            note_start()

    api, normalizer = (next(one for one in INSTANCES if one.name == name) for name in ("api", "normalizer"))
    start("api")
    start("normalizer")
    assert outdated(tmp_path, [api, normalizer], fingerprint(tmp_path)) == {}
    (tmp_path / ".env").write_text("CORS_ORIGINS=https://example.org\nREPLAY_LIMIT=7\n")
    now = fingerprint(tmp_path) | {CODE: "another"}
    found = outdated(tmp_path, [api, normalizer], now)
    assert found == {"api": ["CORS_ORIGINS", "REPLAY_LIMIT", CODE], "normalizer": ["REPLAY_LIMIT", CODE]}
    expected = "runs with older code and another CORS_ORIGINS, REPLAY_LIMIT than is there now: headrace restart"
    assert outdated_text(found["api"]) == expected
    start("api")
    assert outdated(tmp_path, [api], fingerprint(tmp_path)) == {}
    assert outdated(tmp_path, [normalizer], fingerprint(tmp_path)) == {"normalizer": ["REPLAY_LIMIT"]}
    (state.run / "started" / "api.json").write_text("damaged")
    assert CODE in outdated(tmp_path, [api], {CODE: "another"})["api"]
