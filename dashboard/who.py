"""The person who acts: the name that a proxy gives, else the user on whose machine the dashboard runs."""

import getpass
import re

from starlette.requests import Request

HEADERS = ("x-forwarded-user", "x-auth-request-user", "remote-user")
"""Names that proxies with a login send. On loopback anybody can send them: they say who it was, they allow nothing."""

LONGEST = 40


def who_acts(request: Request) -> str:
    """A name that fits a request's id: letters, digits and `._-`, at most LONGEST characters."""
    given = next((value for name in HEADERS if (value := request.headers.get(name))), None)
    return as_name(given) or local_user()


def local_user() -> str:
    """The user that this process runs as."""
    try:
        return as_name(getpass.getuser()) or "somebody"
    except (OSError, KeyError):
        return "somebody"  # a container's user may have no name


def as_name(given: str | None) -> str:
    """The part of a name that fits a log line and a request's id; empty if none does. Pure."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", given or "").strip("-")[:LONGEST]
