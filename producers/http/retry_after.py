"""The Retry-After header of HTTP (RFC 9110, 10.2.3): seconds, or a date."""

import datetime
from email.utils import parsedate_to_datetime

NO_DATE = (ValueError, TypeError, LookupError, ArithmeticError)
"""What `parsedate_to_datetime`, and arithmetic with what it returns, may raise for a date that is none."""


def retry_after_seconds(value: str | None, now: datetime.datetime) -> float | None:
    """How long the server asks to wait from `now` (aware) on; 0 for a date that has passed, None if it does not say.

    A value in neither form is None: the caller's own backoff applies.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # RFC 5322's "-0000": UTC, and HTTP dates are GMT anyway
            moment = moment.replace(tzinfo=datetime.UTC)
        return max(0.0, (moment - now).total_seconds())
    except NO_DATE:
        return None
