"""Addresses of our own pages, with keys and names quoted: a key may hold anything. Pure."""

from urllib.parse import quote, urlencode


def record_path(dataset: str, key: str) -> str:
    """The page of a stored record."""
    return f"/data/{quote(dataset, safe='')}/{quote(key, safe='')}"


def trace_path(dataset: str, key: str) -> str:
    """The page of all that happened to a key."""
    return f"/trace/{quote(dataset, safe='')}/{quote(key, safe='')}"


def api_record_path(dataset: str, key: str) -> str:
    """The API's address of a stored record."""
    return f"/datasets/{quote(dataset, safe='')}/{quote(key, safe='')}"


def failures_path(**filters: str | None) -> str:
    """The list of dead letters with these conditions."""
    given = {name: value for name, value in filters.items() if value}
    return f"/failures?{urlencode(given)}" if given else "/failures"
