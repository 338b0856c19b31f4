"""Commands end as they should whatever takes their output: a stream that is closed, or one that lacks characters."""

import io
import json
import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from commands.printable import ESCAPED, json_text

HEADRACE = "from cli import main; main()"


def run(code: str, *arguments: str, before: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    command = ["sh", "-c", f'exec "$@" {before}', "sh", sys.executable, "-c", code, *arguments]
    environment = os.environ | variables
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_runs_where_streams_are_closed(closed: str) -> None:
    shown = run(HEADRACE, "lag", "--help", before=closed)
    assert (shown.returncode, shown.stderr) == (0, "")
    refused = run(HEADRACE, "topics", "no-such-topic", before=closed)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_help_is_shown_in_every_encoding(encoding: str) -> None:
    shown = run(HEADRACE, "lag", "--help", PYTHONIOENCODING=encoding)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--json" in shown.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_json_is_the_same_json_in_every_encoding(encoding: str) -> None:
    value: Any = {"name": "Zoë … 日本 😀", "path": "x"}
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding, errors=ESCAPED) as stream:
        stream.write(json_text(value))
        stream.flush()
        assert json.loads(written.getvalue().decode(encoding)) == msgspec.to_builtins(value)
