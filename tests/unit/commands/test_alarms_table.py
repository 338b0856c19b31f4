"""The table of `headrace alarms`: texts come from outside, and are shown as they are."""

import io

import pytest
from rich.console import Console

from commands.alarms import _table


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[red]gone[/red] [/x]", "[red]gone[/red] [/x]"),
        (r"a \[/x] b", r"a \[/x] b"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("two\nlines", r"two\nlines"),
    ],
)
def test_the_text_of_an_alarm_is_shown_and_does_nothing(text: str, told: str) -> None:
    alarm = {"severity": "warning", "rule": "r", "since": 1.0, "closed_at": None, "text": text}
    file = io.StringIO()
    Console(file=file, width=200).print(_table([alarm], []))
    assert file.getvalue().splitlines()[1].rstrip().endswith(told)
