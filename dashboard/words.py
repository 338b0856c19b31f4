"""Numbers, times and texts as people read them. Pure."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

ABSENT = "–"
"""Shown where the API says null: it is not known, or there was none. Never a zero that nobody counted."""


def number(value: Any) -> str:
    """A count with separators; ABSENT for None. A Decimal keeps all its digits."""
    if value is None:
        return ABSENT
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)


def rate(value: float | Decimal | None) -> str:
    """Records per second: two digits that say something."""
    if value is None:
        return ABSENT
    shown = float(value)
    if shown == 0:
        return "0/s"
    if shown < 1:
        return f"{shown:.2f}/s"
    return f"{shown:,.1f}/s" if shown < 10 else f"{shown:,.0f}/s"


def seconds(value: float | Decimal | None) -> str:
    """A duration: 80 ms, 1.9 s, 4 min 10 s, 3 h 5 min, 12 d."""
    if value is None:
        return ABSENT
    spent = float(value)
    if spent < 1:
        return f"{spent * 1000:.0f} ms" if spent else "0 s"
    if spent < 10:
        return f"{spent:.1f} s"
    whole = round(spent)
    for size, name, smaller, below in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {below}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def parsed(text: Any) -> datetime | None:
    """A time of the API; None for null."""
    if not text:
        return None
    time = datetime.fromisoformat(str(text))
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def ago(text: Any, now: datetime | None = None) -> str:
    """The time since, in one unit: 12 s ago, 4 min ago."""
    if (time := parsed(text)) is None:
        return ABSENT
    spent = ((now or datetime.now(UTC)) - time).total_seconds()
    if spent < 1:
        return "just now"
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if spent >= size:
            return f"{int(spent // size)} {name} ago"
    return f"{int(spent)} s ago"


def moment(text: Any) -> str:
    """A time in UTC to the second: 2026-11-29 22:56:27."""
    time = parsed(text)
    return ABSENT if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 record`, `5 records`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def shown(value: Any) -> str:
    """A value of a record as text: null is ABSENT, text stays as it is."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
