"""Lines of log files as entries with a time, whoever wrote them: our JSON, Kafka's, Postgres', Redis' own forms. Pure.

A line that begins no entry (of a traceback, of a statement over several lines) belongs to the entry before it.
"""

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from schemas.errors import HOSTILE

Level = Literal["debug", "info", "warning", "error", "critical"]

LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")

MOST_LINES = 200
"""Lines that are kept of one entry."""

_NAMES: Mapping[str, Level] = {
    **dict.fromkeys(("trace", "debug", "debug1", "debug2", "debug3", "debug4", "debug5", "blat"), "debug"),
    **dict.fromkeys(("info", "log", "notice", "statement", "detail", "hint", "context"), "info"),
    **dict.fromkeys(("warn", "warning"), "warning"),
    "error": "error",
    **dict.fromkeys(("fatal", "panic", "critical", "crit"), "critical"),
}
"""The words for levels of the programs that write logs here."""

_REDIS_LEVELS: Mapping[str, Level] = {".": "debug", "-": "debug", "*": "info", "#": "warning"}

_DATED = re.compile(
    r"\[?(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)(?P<zone>Z| UTC|[+-]\d\d:?\d\d)?\]?\s*"
    r"(?:\[(?P<pid>\d+)\]\s*)?(?P<rest>.*)",
    re.DOTALL,
)
_REDIS = re.compile(
    r"\d+:[A-Z] (?P<time>\d\d? \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3}) (?P<mark>[.\-*#]) (?P<rest>.*)", re.DOTALL
)
_LEVEL = re.compile(r"\[?(?P<level>[A-Za-z]+[1-5]?)\s*[\]:]?\s*(?P<rest>.*)", re.DOTALL)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

_OURS = ("timestamp", "level", "event", "role", "worker", "exception")


@dataclass
class LogEntry:
    """One entry. `event` is the text of a program that is not ours; `fields` are what ours say beside it."""

    process: str
    at: datetime.datetime | None
    """In UTC; None where the log says no time before or after it."""
    level: Level | None
    event: str
    fields: dict[str, Any] = field(default_factory=dict)
    more: list[str] = field(default_factory=list)
    """The lines that follow it: a traceback, a statement."""

    def text(self) -> str:
        """All of it, as it is searched."""
        said = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return "\n".join([f"{self.event} {said}", *self.more])

    def json(self) -> dict[str, Any]:
        """As scripts get it: our own fields beside time, process, level and event."""
        return {
            "at": self.at,
            "process": self.process,
            "level": self.level,
            "event": self.event,
            **{name: value for name, value in self.fields.items() if name not in ("at", "process")},
            **({"more": self.more} if self.more else {}),
        }


def entries(process: str, lines: Iterable[str]) -> Iterator[LogEntry]:
    """The entries in these lines of a process's log. What comes before the first time has that time."""
    current: LogEntry | None = None
    untimed: list[LogEntry] = []
    for line in lines:
        entry = entry_of(process, line)
        if entry is None and current is not None:
            if len(current.more) < MOST_LINES:
                current.more.append(_ESCAPES.sub("", line))
            continue
        if current is not None:
            yield from _settled(current, untimed)
        current = entry or LogEntry(process, None, None, _ESCAPES.sub("", line))
    if current is not None:
        yield from _settled(current, untimed)
    yield from untimed


def _settled(entry: LogEntry, untimed: list[LogEntry]) -> Iterator[LogEntry]:
    """The entry, after those that have waited for a time."""
    if entry.at is None:
        untimed.append(entry)
        return
    for one in untimed:
        one.at = entry.at
        yield one
    untimed.clear()
    yield entry


def entry_of(process: str, line: str) -> LogEntry | None:
    """The entry that a line begins; None if it belongs to the one before."""
    if line.startswith("{"):
        return _of_ours(process, line)
    line = _ESCAPES.sub("", line)
    if found := _DATED.fullmatch(line):
        return _dated(process, found)
    if found := _REDIS.fullmatch(line):
        try:
            at = _in_utc(process, datetime.datetime.strptime(found["time"], "%d %b %Y %H:%M:%S.%f"))
        except ValueError:
            return None
        return LogEntry(process, at, _REDIS_LEVELS[found["mark"]], found["rest"])
    return None


def _of_ours(process: str, line: str) -> LogEntry | None:
    try:
        said = msgspec.json.decode(line)
        at = datetime.datetime.fromisoformat(said["timestamp"]).astimezone(datetime.UTC)
        event = str(said["event"])
    except (*HOSTILE, KeyError, TypeError):
        return None
    fields = {name: value for name, value in said.items() if name not in _OURS}
    more = str(said["exception"]).splitlines()[:MOST_LINES] if said.get("exception") else []
    return LogEntry(process, at, _NAMES.get(str(said.get("level")).lower()), event, fields, more)


def _dated(process: str, found: re.Match[str]) -> LogEntry | None:
    zone = (found["zone"] or "").replace(" UTC", "Z")
    try:
        at = _in_utc(process, datetime.datetime.fromisoformat(found["time"].replace(",", ".") + zone))
    except (ValueError, OverflowError):  # the latter of a time just outside of the calendar in UTC
        return None
    rest, level = found["rest"], None
    if (named := _LEVEL.fullmatch(rest)) and (level := _NAMES.get(named["level"].lower())):
        rest = named["rest"]
    return LogEntry(process, at, level, rest)


def _in_utc(process: str, time: datetime.datetime) -> datetime.datetime:
    """Servers run in UTC (`local_stack.server.IN_UTC`); the supervisor is in the zone of who started it."""
    if time.tzinfo is None and not process.startswith("supervisord"):
        return time.replace(tzinfo=datetime.UTC)
    return time.astimezone(datetime.UTC)


def wanted(
    entry: LogEntry,
    since: datetime.datetime | None = None,
    pattern: re.Pattern[str] | None = None,
    level: Level | None = None,
) -> bool:
    """True if it is as new, as grave and of that text. What says no level is left out where one is asked for."""
    if since is not None and (entry.at is None or entry.at < since):
        return False
    if level is not None and (entry.level is None or LEVELS.index(entry.level) < LEVELS.index(level)):
        return False
    return pattern is None or pattern.search(f"{entry.process} {entry.text()}") is not None


def merged(logs: Iterable[Iterable[LogEntry]]) -> list[LogEntry]:
    """The entries of several logs in order of time; those of one log stay in their order where times are equal."""
    begin = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return sorted((entry for log in logs for entry in log), key=lambda entry: entry.at or begin)
