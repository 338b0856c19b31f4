"""Nothing that a stranger wrote is run by a terminal, whichever command shows it and however it is printed."""

import io
import json
import re
import string
import sys
import unicodedata
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from commands.printable import PrintableConsole, json_text
from runtime.printable import printable

PROJECT = Path(__file__).parents[3]
HOSTILE = "a\x1b[2J\x1b]0;owned\x07b\x9b31m\u202ec\x08\r\x00"
RUN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printed(*what: object, colours: bool = False, **options: object) -> str:
    file = io.StringIO()
    terminal = {"TERM": "xterm"}
    PrintableConsole(file=file, force_terminal=colours, width=200, _environ=terminal).print(*what, **options)  # type: ignore[arg-type]
    return file.getvalue()


def table() -> Table:
    found = Table("NAME", title=HOSTILE, caption=HOSTILE)
    found.add_row(HOSTILE)
    found.add_row(Text(HOSTILE))
    return found


@pytest.mark.parametrize("what", [HOSTILE, Text(HOSTILE), table()], ids=["str", "Text", "Table"])
def test_what_a_terminal_would_run_is_printed_as_text(what: object) -> None:
    assert not RUN.search(printed(what, markup=False))
    assert "\\x1b" in printed(what, markup=False)


def is_shown(character: str) -> bool:
    return printable(character) == character


def test_whatever_has_no_shape_is_written_as_an_escape_in_texts_and_in_json() -> None:
    hidden = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} or character in "\u115f\u3164\uffa0"
    ]
    assert {"\u061c", "\u180e", "\u200e", "\u2066", "\ufff9", "\U000e0001", "\U000e007f"} <= set(hidden)
    assert [character for character in hidden if is_shown(character)] == []
    assert not is_shown("\ud83d")
    assert json.loads(json_text(hidden)) == hidden
    assert set(json_text(hidden)) <= set('[]",\\' + string.ascii_letters + string.digits)
    assert printable("a\U000e0001\u061cb") == r"a\U000e0001\u061cb"


@pytest.mark.parametrize("text", ["Zoë Müller", "日本語　テキスト", "مرحبا", "👍🏽 ❤️", "a\u00a0b", "\ue000"])
def test_what_has_a_shape_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_colours_and_lines_of_our_own_stay() -> None:
    assert printed(Text("a\nb", "red"), colours=True) == "\x1b[31ma\x1b[0m\n\x1b[31mb\x1b[0m\n"
    assert printed(Text(f"{HOSTILE}\nb", "red"), colours=True).count("\x1b") == 4


@pytest.mark.parametrize("indent", [-1, 2])
def test_json_is_the_same_value_in_letters_that_no_terminal_runs(indent: int) -> None:
    text = json_text({HOSTILE: [HOSTILE, "\ud83d".encode("utf-16", "surrogatepass").hex()]}, indent=indent)
    assert not RUN.search(text)
    assert next(iter(json.loads(text))) == HOSTILE
    assert ("\n" in text) == (indent > 0)


def test_every_command_prints_by_such_a_console() -> None:
    """A console of another kind, or JSON that is encoded by hand, would be a way round."""
    for file in (PROJECT / "commands").glob("*.py"):
        if file.name != "printable.py":
            code = file.read_text()
            assert "import Console" not in code, file
            assert not re.search(r"echo\(.*encode\(", code), file
            assert not re.search(r"\bprint\((?!_json)", re.sub(r"\.print\(", "", code)), file
