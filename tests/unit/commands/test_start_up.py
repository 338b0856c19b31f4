"""No command loads the client of a store that it does not ask, nor what only another one needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PROJECT

SERVING = {"elasticsearch", "fastapi", "faust", "feedparser", "pyarrow", "alembic"}
"""Each takes 0.2 to 0.7 s to load."""
DATABASE = {"sqlalchemy", "asyncpg"}
EVERYTHING = SERVING | DATABASE | {"confluent_kafka", "aiokafka", "redis", "pydantic", "httpx", "phonenumbers"}


@pytest.mark.parametrize(
    ("commands", "unwanted"),
    [
        ("env logs", SERVING | DATABASE | {"confluent_kafka", "redis", "phonenumbers"}),
        ("lag topics sink watchdog", SERVING | DATABASE | {"redis", "aiokafka", "httpx", "phonenumbers"}),
        ("status down restart clean", SERVING | {"sqlalchemy", "aiokafka", "httpx", "phonenumbers"}),
        ("up scale rehearse", SERVING | {"sqlalchemy"}),
        ("normalizer", {"sqlalchemy", "elasticsearch", "feedparser", "pyarrow", "phonenumbers"}),
        ("stats audit reset failures", SERVING | {"redis", "httpx"}),
    ],
)
def test_a_command_loads_what_it_needs(commands: str, unwanted: set[str]) -> None:
    assert loaded(f"import {', '.join(f'commands.{name}' for name in commands.split())}") & unwanted == set()


def test_the_help_page_loads_no_command() -> None:
    modules = loaded("from commands.command_line import build_app; build_app(['--help'])")
    assert modules & (EVERYTHING | {"commands.status"}) == set()


@pytest.mark.parametrize("command", ["sink postgres", "run customers_csv"])
def test_a_command_loads_nothing_for_tracebacks_in_colours(command: str) -> None:
    modules = loaded(f"from commands.command_line import build_app; build_app({command.split()})")
    assert modules & {"rich.traceback", "rich.pretty"} == set()


def test_what_a_command_has_loaded_is_not_looked_through_for_garbage_when_it_ends() -> None:
    code = (
        "import atexit, gc, sys; from cli import main; sys.argv = ['headrace', 'lag', '--help']; "
        "atexit.register(lambda: print('frozen:', gc.get_freeze_count(), len(gc.get_objects()))); main()"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    frozen, others = map(int, said.partition("frozen:")[2].split())
    assert frozen > others


def test_modules_of_another_project_do_not_take_the_place_of_ours(tmp_path: Path) -> None:
    for package in ("api", "commands", "runtime", "schemas", "local_stack"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('this is another project')")
    code = (
        f"import sys; sys.path.append('{PROJECT}'); sys.argv = ['headrace', 'status', '--help']; from cli import main"
    )
    command = [sys.executable, "-c", f"{code}; main()"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert "headrace status" in done.stdout


def loaded(code: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
