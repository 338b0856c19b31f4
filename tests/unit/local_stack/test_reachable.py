"""Programs that the servers' user can't get at, and those that it can."""

import os
import subprocess
from pathlib import Path

import pytest

from local_stack.postgres import wheel_folders
from local_stack.unprivileged import can_enter, reachable


@pytest.fixture(autouse=True)
def out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_stack.unprivileged.COPIES", tmp_path / "copies")
    monkeypatch.setattr("local_stack.unprivileged.can_enter", lambda _: False)


def test_a_program_is_copied_once_per_content_and_the_copy_runs(tmp_path: Path) -> None:
    folder = tmp_path / "private" / "bin"
    folder.mkdir(parents=True)
    program = folder / "server"
    program.write_text("#!/bin/sh\necho served\n")
    program.chmod(0o700)
    copy = reachable(folder)
    assert (copy / "server").stat().st_mode & 0o777 == 0o755
    assert subprocess.run([copy / "server"], capture_output=True, text=True, check=True).stdout == "served\n"
    assert reachable(folder) == copy
    program.write_text("a newer one")
    assert reachable(folder) != copy
    assert reachable(program).read_text() == "a newer one"


def test_the_copy_of_a_wheels_program_finds_its_libraries() -> None:
    copy = reachable(wheel_folders()[0])
    assert copy != wheel_folders()[0]
    version = subprocess.run([copy / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    assert "PostgreSQL" in version


def test_a_folder_cannot_be_entered_if_any_folder_above_it_is_closed(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (tmp_path / "a").chmod(0o700)
    assert can_enter(inside) == (os.geteuid() != 0)
    assert can_enter(Path("/"))
