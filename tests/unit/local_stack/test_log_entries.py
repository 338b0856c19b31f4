"""Logs of all kinds have one time line, and what belongs together stays together."""

import datetime
import re
from pathlib import Path

import pytest
from rich.console import Console

from commands.logs import entry_text
from local_stack.elasticsearch import Elasticsearch
from local_stack.java import Jdk
from local_stack.kafka import Kafka
from local_stack.log_entries import LogEntry, entries, merged, wanted
from local_stack.log_reading import ending
from local_stack.maven import JavaServer
from local_stack.redis import Redis
from tests.time_zone import time_zone

SAID = '"role": "n", "level": "warning", "timestamp": "2026-11-29T22:56:21Z"'
OURS = f'{{"topic": "customers.raw", "event": "resumed", {SAID}}}'


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def test_servers_run_in_utc_wherever_their_logs_are_read_and_the_supervisor_in_the_zone_of_who_reads() -> None:
    line = "2026-11-29 22:55:57,491 INFO up"
    with time_zone("Asia/Kathmandu"):
        assert [one.at for one in entries("kafka", [line])] == [at("2026-11-29T22:55:57.491Z")]
        assert [one.at for one in entries("supervisord", [line])] == [at("2026-11-29T17:10:57.491Z")]
    folder = Path("/nowhere")
    servers = (
        Kafka(JavaServer(Jdk(folder, 21), folder), folder, 1, 2),
        Elasticsearch(JavaServer(Jdk(folder, 21), folder), folder, 1, 2),
        Redis("redis-server", folder, 1, "a password"),
    )
    assert {server.environment()["TZ"] for server in servers} == {"UTC"}


@pytest.mark.parametrize(
    ("line", "when", "level", "event"),
    [
        (OURS, "2026-11-29T22:56:21+00:00", "warning", "resumed"),
        ("2026-11-29T22:55:58,642 INFO  [Broker] up", "2026-11-29T22:55:58.642+00:00", "info", "[Broker] up"),
        ("[2026-11-29 22:55:58,642] ERROR gone (kafka.X)", "2026-11-29T22:55:58.642+00:00", "error", "gone (kafka.X)"),
        ("[2026-11-29T22:55:58,642][WARN ][o.e.n] low", "2026-11-29T22:55:58.642+00:00", "warning", "[o.e.n] low"),
        ("2026-11-29 22:55:57.600 UTC [315] FATAL:  no", "2026-11-29T22:55:57.600+00:00", "critical", "no"),
        ("31547:M 29 Nov 2026 22:55:57.555 # memory", "2026-11-29T22:55:57.555+00:00", "warning", "memory"),
        ("2026-11-29 22:55:57,491 CRIT Server", "2026-11-29T22:55:57.491+00:00", "critical", "Server"),
        ("\x1b[2m2026-11-29T22:55:57.491Z\x1b[0m plain words", "2026-11-29T22:55:57.491+00:00", None, "plain words"),
    ],
)
def test_each_form_of_log_has_time_level_and_words(line: str, when: str, level: str | None, event: str) -> None:
    [entry] = entries("x", [line])
    assert (entry.at, entry.level, entry.event) == (at(when), level, event)


def test_our_fields_are_kept_and_what_every_line_says_is_not() -> None:
    [entry] = entries("normalizer", [OURS])
    assert entry.fields == {"topic": "customers.raw"}
    assert entry.json() == {
        "at": entry.at, "process": "normalizer", "level": "warning", "event": "resumed", "topic": "customers.raw"
    }  # fmt: skip


def test_a_traceback_stays_with_its_entry() -> None:
    trace = ["Traceback (most recent call last):", "  File …", "ValueError: no"]
    [first, second] = entries("x", [OURS, *trace, OURS])
    assert (first.more, second.more) == (trace, [])
    rest, third = entries("x", ["  more of it", OURS])
    assert (rest.event, rest.at) == ("  more of it", third.at)
    [one] = entries("x", [f'{{"event": "died", "exception": "a\\nb", {SAID}}}'])
    assert one.more == ["a", "b"]


def test_what_has_no_time_has_that_of_the_first_that_has() -> None:
    first, second = entries("es", ["WARNING: incubator", "2026-11-29T22:55:59,969 INFO  [x] up"])
    assert (first.event, first.at) == ("WARNING: incubator", second.at)
    [alone] = entries("setup", ["postgres: made"])
    assert alone.at is None


def test_hostile_lines_are_text() -> None:
    for line in ('{"event": 1}', "{", "{" * 100_000, '{"timestamp": "x", "event": "y"}', "2026-99-99 00:00:00 x"):
        [entry] = entries("x", [line])
        assert (entry.at, entry.level) == (None, None)


def test_logs_are_merged_by_time() -> None:
    early, late = entries("a", [OURS.replace("22:56", "22:50"), OURS.replace("22:56", "22:59")])
    [middle] = entries("b", [OURS])
    assert merged([[early, late], [middle]]) == [early, middle, late]


def test_entries_are_chosen_by_time_level_and_text() -> None:
    [entry] = entries("normalizer", [OURS])
    [plain] = entries("x", ["2026-11-29T22:55:57Z plain"])
    assert wanted(entry, level="warning")
    assert not wanted(entry, level="error")
    assert not wanted(plain, level="debug")
    assert wanted(entry, since=at("2026-11-29T22:56:21+00:00"))
    assert not wanted(entry, since=at("2026-11-29T22:56:22+00:00"))
    assert wanted(entry, pattern=re.compile("customers.raw"))
    assert wanted(entry, pattern=re.compile("normalizer"))
    assert not wanted(entry, pattern=re.compile("orders"))


def test_an_entry_on_a_terminal_moves_nothing() -> None:
    entry = LogEntry(
        "api", at("2026-11-29T22:56:21+00:00"), "error", "died\x1b[2J", {"why": "a b", "n": 3}, ["\x1b]0;x\x07"]
    )
    console = Console(force_terminal=True, color_system=None, width=200)
    with console.capture() as captured:
        console.print(entry_text(entry, 6, "red"))
    text = captured.get()
    assert text.startswith('11-29 22:56:21.000  api     error    died\\x1b[2J why="a b" n=3\n    \\x1b]0;x')
    assert "\x1b" not in text


def test_the_end_of_a_log_reaches_into_the_one_that_was_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    (tmp_path / "api.log.1").write_text("one\ntwo\n")
    log.write_text("three\n\nfour\n")
    assert ending(log, 1000) == (["one", "two", "three", "four"], False)
    assert ending(log, 17) == (["two", "three", "four"], True)
    assert ending(log, 8) == (["four"], True)
    assert ending(tmp_path / "none.log", 8) == ([], False)


def test_a_line_of_a_statement_that_begins_with_an_impossible_time_is_no_entry_of_its_own() -> None:
    first = "2026-11-29 22:55:57.600 UTC [315] STATEMENT:  INSERT INTO t VALUES ("
    lines = [first, "0001-01-01 00:00:00+05:00 a", "9999-12-31 23:59:59-05:00 b"]
    [entry] = entries("postgres", lines)
    assert entry.more == lines[1:]
