"""`make db-shell` tells psql the password where `ps` does not show it."""

from pathlib import Path
from typing import NoReturn

import pytest

from local_stack import db_shell
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor


class Became(Exception):
    """Raised by the stand-in for execve, with what it was given."""


def test_the_password_is_in_the_environment_and_in_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execve(program: str, words: list[str], environment: dict[str, str]) -> NoReturn:
        raise Became(program, words, environment)

    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("PGSERVICE", "of-work")
    monkeypatch.setenv("PSQL_PAGER", "less")
    StateFolder.at(tmp_path).write_addresses({"DATABASE_URL": "postgresql://headrace:p%2Fw@127.0.0.1:5432/headrace"})
    monkeypatch.setattr(Supervisor, "is_running", lambda _: True)
    monkeypatch.setattr(db_shell, "find_psql", lambda: "/usr/bin/psql")
    monkeypatch.setattr("os.execve", execve)
    monkeypatch.setattr("sys.argv", ["db_shell", "-c", "SELECT 1"])
    with pytest.raises(Became) as became:
        db_shell.main()
    program, words, environment = became.value.args
    assert (program, words) == (
        "/usr/bin/psql",
        ["/usr/bin/psql", "postgresql://headrace@127.0.0.1:5432/headrace", "-c", "SELECT 1"],
    )
    assert {name: value for name, value in environment.items() if name.startswith("PG")} == {"PGPASSWORD": "p/w"}
    assert environment["PSQL_PAGER"] == "less"
