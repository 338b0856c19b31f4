"""Log lines: of our own events and of libraries', in JSON and on a terminal."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import logging, structlog
from runtime.logging import configure_logging
from runtime.settings import Settings
configure_logging(Settings(log_format="{log_format}", log_level="INFO", worker_id="w1"), "api")
log = structlog.get_logger()
"""


def written(log_format: str, code: str, stderr: Path) -> str:
    """What a process writes that has set up logging and does this."""
    program = BEGIN.format(log_format=log_format) + code
    with stderr.open("w") as file:
        done = subprocess.run([sys.executable, "-c", program], stderr=file, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"the end\n"
    return stderr.read_text() if stderr.is_file() else ""


def test_an_event_and_a_librarys_line_are_json_with_role_worker_level_and_time(tmp_path: Path) -> None:
    code = r"""
with structlog.contextvars.bound_contextvars(request_id="r-1"):
    log.info("request", path="/é\n", status=200)
    log.debug("not_shown")
    logging.getLogger("some.library").warning("mind %s", "this")
print("the end")
"""
    lines = written("json", code, tmp_path / "stderr")
    ours, theirs = map(json.loads, lines.splitlines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "event": "request",
        "path": "/é\n",
        "status": 200,
        "level": "info",
        "role": "api",
        "worker": "w1",
        "request_id": "r-1",
    }
    assert (theirs["event"], theirs["level"], theirs["role"]) == ("mind this", "warning", "api")
    assert '"event": "request"' in lines


def test_no_line_has_an_e_mail_address_and_each_is_json_all_the_same(tmp_path: Path) -> None:
    code = r"""
address = "josé.hara+x@mail.example.org"
log.info("request", path=f"/users/{address}", keys=[address, "C1"], text=f"said:\n{address}\tand é{address}")
log.warning("kept", host="postgresql://headrace@127.0.0.1:5432/x", topic="customers.raw@2")
logging.getLogger("some.library").warning("Key (email)=(%s) already exists", address)
try:
    raise ValueError(address)
except ValueError:
    log.exception("broken")
print("the end")
"""
    lines = written("json", code, tmp_path / "stderr")
    assert "mail.example" not in lines
    request, kept, library, broken = map(json.loads, lines.splitlines())
    assert (request["path"], request["keys"][1]) == ("/users/(address)", "C1")
    assert (kept["host"], kept["topic"]) == ("postgresql://***@127.0.0.1:5432/x", "customers.raw@2")
    assert library["event"] == "Key (email)=((address)) already exists"
    assert "(address)" in broken["exception"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_is_told_with_its_traceback(log_format: str, tmp_path: Path) -> None:
    code = """
try:
    raise ValueError("broken")
except ValueError:
    log.exception("request_failed", path="/x")
print("the end")
"""
    told = written(log_format, code, tmp_path / "stderr")
    told = json.loads(told)["exception"] if log_format == "json" else told
    assert "Traceback" in told
    assert "ValueError: broken" in told


def test_a_line_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    code = """
import os
os.close(2)
log.info("request")
print("the end", flush=True)
os._exit(0)  # Python itself ends with 120 where it cannot write what it has buffered
"""
    assert written("json", code, tmp_path / "stderr") == ""


def test_on_a_terminal_no_text_moves_the_cursor_or_begins_a_line(tmp_path: Path) -> None:
    code = r"""
evil = "a\x1b[2J\r\nb\x9b31m\u202e"
log.info(evil, path=evil, name=evil)
logging.getLogger("some.library").warning(evil)
try:
    raise ValueError(evil)
except ValueError:
    log.exception("failed")
    logging.getLogger("some.library").exception(evil)
print("the end")
"""
    text = written("console", code, tmp_path / "stderr")
    text = re.sub(r"\x1b\[\d*m", "", text)  # our own colours
    assert not set(text) & {"\x1b", "\r", "\x9b", "\u202e"}
    assert [line for line in text.splitlines() if line.startswith("b")] == []
    assert text.count("[2J") >= 6


def test_lines_of_requests_are_written_together_in_their_order_before_one_that_tells_of_trouble_and_at_the_end(
    tmp_path: Path,
) -> None:
    code = r"""
import asyncio, os, sys
writes = []
class Stream:
    def write(self, text): writes.append(os.write(2, text.encode()))
    def flush(self): pass
sys.stderr = Stream()
configure_logging(Settings(log_format="json", log_level="INFO"), "api", held=True)
async def serve():
    for number in range(3):
        log.info("request", number=number)
    assert writes == []
    log.warning("slow", number=3)
    assert len(writes) == 1
    log.info("request", number=4)
    await asyncio.to_thread(log.info, "request", number=5)  # no loop there
    assert len(writes) == 2
    log.info("request", number=6)
    while len(writes) < 3:  # and after a moment by itself
        await asyncio.sleep(0.01)
    log.info("request", number=7)
asyncio.run(serve())
log.info("stopped", number=8)
print("the end")
"""
    lines = written("json", code, tmp_path / "stderr").splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(9))


def test_lines_that_are_held_when_a_process_ends_are_written(tmp_path: Path) -> None:
    code = r"""
import asyncio
configure_logging(Settings(log_format="json", log_level="INFO"), "api", held=True)
async def serve():
    log.info("request")
asyncio.run(serve())
print("the end")
"""
    assert "request" in written("json", code, tmp_path / "stderr")
