"""Addresses of our own pages, and commands to copy, with keys and names quoted: a key may hold anything. Pure."""

import shlex
from collections.abc import Mapping
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


def trace_command(dataset: str, key: str) -> str:
    """The command line that traces a key. A stranger chose the key: a shell that it is pasted into takes it as text."""
    return f"headrace trace --dataset {shlex.quote(dataset)} -- {shlex.quote(key)}"


def lag_command(group: str) -> str:
    """The command line that watches a consumer group; any client of the broker may have chosen its name."""
    return f"headrace lag --watch -- {shlex.quote(group)}"


def peek_command(topic: str, wanted: Mapping[str, str]) -> str:
    """The command line that shows a topic's messages, with these options."""
    options = [f"--{name} {shlex.quote(value)}" for name, value in wanted.items()]
    return " ".join(["headrace topics peek", *options, "--", shlex.quote(topic)])


def api_command(api: str, path: str) -> str:
    """The command line that asks the API at `api` itself."""
    return f"curl -s {shlex.quote(api.rstrip('/') + path)}"


def dataset_path(dataset: str) -> str:
    """The page of a dataset's records."""
    return f"/data?{urlencode({'dataset': dataset})}"
