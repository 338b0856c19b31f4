from pathlib import Path

from local_stack.log_reading import FollowedLog, last_lines


def test_a_followed_log_gives_complete_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("old\n")
    with FollowedLog(log) as followed:
        with log.open("a") as file:
            file.write("one\ntw")
        assert followed.new_lines() == ["one"]
        with log.open("a") as file:
            file.write("o\n")
        assert followed.new_lines() == ["two"]


def test_a_rotated_log_is_followed_into_its_new_file(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("old\n")
    with FollowedLog(log) as followed:
        with log.open("a") as file:
            file.write("last of the old\n")
        log.rename(tmp_path / "kafka.log.1")
        log.write_text("first of the new\n")
        assert followed.new_lines() == ["last of the old", "first of the new"]


def test_a_log_that_appears_later_is_followed_from_its_beginning(tmp_path: Path) -> None:
    with FollowedLog(tmp_path / "api.log") as followed:
        assert followed.new_lines() == []
        (tmp_path / "api.log").write_text("hello\n")
        assert followed.new_lines() == ["hello"]


def test_the_last_lines_can_be_limited_to_those_after_a_position(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("before\n")
    size = log.stat().st_size
    with log.open("a") as file:
        file.write("after\n\nlast\n")
    assert last_lines(log, since=size) == ["after", "last"]
    assert last_lines(log, 1) == ["last"]
    assert last_lines(log, since=10_000) == ["before", "after", "last"]
