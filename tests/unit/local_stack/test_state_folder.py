import stat
from pathlib import Path

import pytest

from local_stack.errors import StackError
from local_stack.state_folder import SOCKET_PATH_BYTES, StackRecord, StateFolder


def test_a_record_that_was_written_is_read_back(tmp_path: Path) -> None:
    state = StateFolder.at(tmp_path)
    record = StackRecord({"KAFKA_PORT": 1}, {"elasticsearch": "no JDK"}, servers_only=True, ingested=True)
    state.write_record(record)
    assert state.read_record() == record


def test_unknown_fields_in_a_record_of_another_release_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"ports": {"KAFKA_PORT": 1}, "without_elasticsearch": "no JDK"}')
    assert StateFolder.at(tmp_path).read_record() == StackRecord({"KAFKA_PORT": 1})


def test_a_damaged_record_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json is damaged"):
        StateFolder.at(tmp_path).read_record()


def test_the_path_of_the_control_socket_is_short_enough_even_in_a_deep_folder(tmp_path: Path) -> None:
    deep = StateFolder.at(tmp_path / ("x" * 120))
    assert len(str(deep.supervisor_socket)) <= SOCKET_PATH_BYTES
    assert deep.supervisor_socket != StateFolder.at(tmp_path / ("y" * 120)).supervisor_socket


def test_only_the_owner_can_read_the_addresses_with_the_password(tmp_path: Path) -> None:
    state = StateFolder.at(tmp_path)
    state.write_addresses({"DATABASE_URL": "postgresql://u:p=q@h/d"})
    assert stat.S_IMODE(state.env_file.stat().st_mode) == 0o600
    assert state.read_addresses() == {"DATABASE_URL": "postgresql://u:p=q@h/d"}


def test_a_second_command_is_refused_with_the_name_and_pid_of_the_first(tmp_path: Path) -> None:
    state = StateFolder.at(tmp_path / "home")
    state.make()
    with (
        state.only_one("up"),
        pytest.raises(StackError, match=r"`headrace up` \(pid \d+\) is at work"),
        state.only_one("down"),
    ):
        pass
    with state.only_one("down"):
        pass


def test_a_folder_of_somebody_else_is_not_taken_for_ours(tmp_path: Path) -> None:
    assert not StateFolder.at(tmp_path).is_ours()
    ours = StateFolder.at(tmp_path / "home")
    ours.make()
    assert ours.is_ours()
