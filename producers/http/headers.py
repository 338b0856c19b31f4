"""Headers of HTTP that take a rule to read: Retry-After, and those of conditional requests (RFC 9110). Pure."""

import datetime
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from stores.checkpoints import Page

NO_DATE = (ValueError, TypeError, LookupError, ArithmeticError)
"""Errors of `parsedate_to_datetime`, and of arithmetic with its result, for a date that is none."""

SETTLED_SECONDS = 60.0
"""A date of change has a resolution of a second: it tells two versions apart only when it has passed for a while
(RFC 7232, 2.2.2)."""

LONGEST_VALIDATOR = 1000


def retry_after_seconds(value: str | None, now: datetime.datetime) -> float | None:
    """Seconds that the server asks to wait from `now` (aware) on; 0 for a date in the past, None if it asks nothing.

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


def conditions(page: Page) -> dict[str, str]:
    """The request headers that make a server answer 304 if the page is what it was; none if that can't be told."""
    if page.etag is not None:
        return {"If-None-Match": page.etag}
    return {} if page.last_modified is None else {"If-Modified-Since": page.last_modified}


def validators(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """ETag and Last-Modified of an answer, as far as they tell its content from a later one."""
    etag, modified = headers.get("etag"), headers.get("last-modified")
    if can_be_sent(etag):
        return etag, None
    return None, modified if can_be_sent(modified) and _is_settled(str(modified), headers.get("date")) else None


def can_be_sent(validator: str | None) -> bool:
    """True if it may go back in a request header as it came: servers also answer with bytes that no header may have."""
    if not validator or len(validator) > LONGEST_VALIDATOR:
        return False
    return validator.isascii() and validator.isprintable()


def _is_settled(modified: str, date: str | None) -> bool:
    if date is None:
        return False
    try:
        age = parsedate_to_datetime(date) - parsedate_to_datetime(modified)
    except NO_DATE:  # or one with a time zone and the other without
        return False
    return age >= datetime.timedelta(seconds=SETTLED_SECONDS)
