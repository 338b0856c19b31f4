"""Moments as people write them: `30m` ago or from now, or ISO 8601."""

import datetime
import re

_LENGTH = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

FORMS = "e.g. 30m, 2h, 1d or 2025-03-01T12:00"


def moment(text: str, now: datetime.datetime) -> datetime.datetime:
    """The moment in UTC: so long before `now`, or ISO 8601, which is local time unless it says otherwise. Pure.

    Raises ValueError for anything else.
    """
    return _moment(text, now, -1)


def moment_to_come(text: str, now: datetime.datetime, *, or_now: bool = False) -> datetime.datetime:
    """The same with so long after `now`. Pure. Raises ValueError for anything else, and for a moment that is over."""
    found = _moment(text, now, 1)
    if found < now or (found == now and not or_now):
        raise ValueError(f"{text[:80]!r} is over; expected a time to come, {FORMS}")
    return found


def _moment(text: str, now: datetime.datetime, sign: int) -> datetime.datetime:
    try:
        if length := _LENGTH.fullmatch(text):
            return now.astimezone(datetime.UTC) + sign * datetime.timedelta(**{_UNITS[length[2]]: int(length[1])})
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:80]!r}: expected {FORMS}") from None
