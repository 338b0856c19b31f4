"""Moments as people write them: `30m` ago, or ISO 8601."""

import datetime
import re

_AGO = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

FORMS = "e.g. 30m, 2h, 1d or 2025-03-01T12:00"


def moment(text: str, now: datetime.datetime) -> datetime.datetime:
    """The moment in UTC: so long before `now`, or ISO 8601, which is local time unless it says otherwise. Pure.

    Raises ValueError for anything else.
    """
    try:
        if ago := _AGO.fullmatch(text):
            return now.astimezone(datetime.UTC) - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:80]!r}: expected {FORMS}") from None
