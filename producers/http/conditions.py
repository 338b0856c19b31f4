"""Conditional requests (RFC 9110, 13): ask for a page only if it is another than the one that is known. Pure."""

import datetime
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from producers.http.retry_after import NO_DATE
from stores.checkpoints import Page

SETTLED_SECONDS = 60.0
"""A date of change has a resolution of a second: it tells two versions apart only when it has passed for a while
(RFC 7232, 2.2.2)."""

LONGEST_VALIDATOR = 1000


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
    """Whether it may go back in a request header as it came: servers also answer with bytes that no header may have."""
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
