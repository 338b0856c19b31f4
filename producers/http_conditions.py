"""Conditional requests (RFC 9110, 13): ask for a page only if it is another than the one that is known. Pure."""

import datetime
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from runtime.checkpoints import Page

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
    if etag and len(etag) <= LONGEST_VALIDATOR:
        return etag, None
    return None, modified if modified and _is_settled(modified, headers.get("date")) else None


def _is_settled(modified: str, date: str | None) -> bool:
    if date is None:
        return False
    try:
        age = parsedate_to_datetime(date) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):  # no date, or one with a time zone and the other without
        return False
    return age >= datetime.timedelta(seconds=SETTLED_SECONDS)
