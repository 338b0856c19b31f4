import errno
import shutil
import stat
import sys
from pathlib import Path

import pytest

from local_stack.errors import StackError
from local_stack.state_folder import MARK, SOCKET_PATH_BYTES, StackRecord, StateFolder, write_atomically


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


def test_a_folder_that_holds_anything_else_is_not_made_a_state_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in ("photos", "run", "letters"):
        (tmp_path / name).mkdir()
    with pytest.raises(StackError, match="it holds letters, photos"):
        StateFolder.at(tmp_path).make()
    assert not StateFolder.at(tmp_path).is_ours(), "`clean` would delete it"
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("there", [(), ("lost+found",), ("compose.env", "run")])
def test_a_new_disk_and_what_we_have_used_without_a_stack_become_state_folders(
    tmp_path: Path, there: tuple[str, ...]
) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    for _ in range(2):
        StateFolder.at(tmp_path).make()
        (tmp_path / "exported.csv").touch()
    assert StateFolder.at(tmp_path).is_ours()


def test_a_folder_of_another_user_is_not_made_a_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StackError, match=r"belongs to another user \(uid \d+\)"):
        StateFolder.at(tmp_path).make()
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tmp_path / "stack.json", []
    write_atomically(file, "old")

    def full(descriptor: int) -> None:
        written = Path(f"/proc/self/fd/{descriptor}") if sys.platform == "linux" else None
        seen.append((file.read_text(), written.read_text() if written else "new"))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, "new")
    assert seen == [("old", "new")]
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("cut_at", ["logs", "run"])
def test_a_deletion_that_was_cut_short_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_at: str
) -> None:
    state = StateFolder.at(tmp_path / "home")
    state.make()
    state.write_record(StackRecord())
    remove = shutil.rmtree

    def cut(path: Path) -> None:
        if path == state.home:
            (path / MARK).unlink()  # as the order of its entries may have it
        if path.name in (cut_at, state.home.name):
            raise KeyboardInterrupt
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut)
        with pytest.raises(KeyboardInterrupt):
            state.delete()
    assert state.is_ours()
    state.delete()
    assert list(tmp_path.iterdir()) == []


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
