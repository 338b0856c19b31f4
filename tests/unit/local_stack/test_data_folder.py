"""The servers' data where their user can't enter the state folder: elsewhere, with a link to it, and nothing lost."""

from pathlib import Path

import pytest

from local_stack import unprivileged as data_folder
from local_stack.errors import StackError
from local_stack.unprivileged import delete_data_folder, make_data_folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where data goes that can't stay, here because nobody else can enter `home`."""
    monkeypatch.setenv("HEADRACE_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(data_folder, "can_enter", lambda folder: folder.name != "home")
    return tmp_path / "elsewhere"


def test_data_stays_in_the_state_folder_if_the_servers_can_enter_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_folder, "can_enter", lambda _: True)
    make_data_folder(tmp_path / "home" / "data")
    assert (tmp_path / "home" / "data").is_dir()
    assert not (tmp_path / "home" / "data").is_symlink()
    assert not (tmp_path / "home" / "data").stat().st_mode & 0o007


def test_data_in_a_folder_that_the_servers_cannot_enter_moves_elsewhere_once_with_its_content(
    tmp_path: Path, elsewhere: Path
) -> None:
    data = tmp_path / "home" / "data"
    (data / "kafka").mkdir(parents=True)
    (data / "kafka" / "segment").write_text("a record")
    for _ in range(2):
        make_data_folder(data)
        assert data.resolve().parent == elsewhere
        assert (data / "kafka" / "segment").read_text() == "a record"
    assert len(list(elsewhere.iterdir())) == 1
    assert not data.resolve().stat().st_mode & 0o007


@pytest.mark.parametrize("step", ["rename", "symlink_to", "_move"])
def test_a_move_that_was_cut_short_is_finished_by_the_next_one(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    data = tmp_path / "home" / "data"
    data.mkdir(parents=True)
    (data / "segment").write_text("a record")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data_folder if step == "_move" else Path, step, cut)
        with pytest.raises(KeyboardInterrupt):
            make_data_folder(data)
    make_data_folder(data)
    assert (data / "segment").read_text() == "a record"
    assert list((tmp_path / "home").iterdir()) == [data]


def test_deleting_data_that_was_moved_elsewhere_deletes_only_that_folder(tmp_path: Path, elsewhere: Path) -> None:
    make_data_folder(tmp_path / "home" / "data")
    (elsewhere / "of-another-stack").mkdir()
    delete_data_folder(tmp_path / "home" / "data")
    assert [folder.name for folder in elsewhere.iterdir()] == ["of-another-stack"]
    assert not list((tmp_path / "home").iterdir())


def test_data_in_a_folder_that_kafka_would_take_for_two_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_folder, "can_enter", lambda _: True)
    with pytest.raises(StackError, match="comma") as refusal:
        make_data_folder(tmp_path / "a,b" / "data")
    assert "HEADRACE_HOME" in str(refusal.value)


def test_a_data_folder_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path, elsewhere: Path) -> None:
    elsewhere.touch()
    with pytest.raises(StackError, match="elsewhere") as refusal:
        make_data_folder(tmp_path / "home" / "data")
    assert "HEADRACE_HOME" in str(refusal.value)
