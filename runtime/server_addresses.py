"""Checks addresses of servers for the forms that our clients take. A check raises ValueError with the form. Pure.

A client that is given something else ends in a traceback, or, worse, reads another database than the one meant.
"""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

_POSTGRES = re.compile(r"(postgresql(\+[a-z0-9]+)?|postgres)://")
_SERVER = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
_REDIS_OPTION = re.compile(r"db|protocol|username|password|client_name|ssl_[a-z_]+")
_URL = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,20}://)(?P<user>[^\s\"<>]*@)?(?P<place>[^\s?#'\"<>]*)(?P<query>[?#][^\s'\"<>]*)?",
    re.I,
)
_SCHEME = re.compile(r"[a-z0-9+.-]*:?/+", re.IGNORECASE)
_VALUE = re.compile(r"=([^&#]*)")
_SECRETS = re.compile(r"(?<=[?&]password=)[^&]*")


def check_postgres(url: str) -> str:
    """postgresql://user:password@host:port/database; any driver may be named, as in URLs made for SQLAlchemy."""
    if not _POSTGRES.match(url) or _parts(url) is None:
        raise ValueError("expected postgresql://user:password@host:port/database")
    return url


def check_redis(url: str) -> str:
    """redis://host:port/database, rediss:// for TLS, or unix:///path. What redis-py would read past is refused."""
    parts = _parts(url)
    if (
        parts is None
        or parts.scheme not in {"redis", "rediss", "unix"}
        or not (parts.path.strip("/") if parts.scheme == "unix" else parts.hostname)
        or (parts.scheme != "unix" and not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path))
        or parts.fragment
    ):
        raise ValueError("expected redis://user:password@host:port/number, rediss://… or unix:///path")
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if not _REDIS_OPTION.fullmatch(name):
            raise ValueError(f"it has the option {name!r}, which is none of a connection")
        if name in {"db", "protocol"} and not re.fullmatch("[0-9]{1,5}", value):
            raise ValueError(f"its option {name} must be a number")
    return url


def check_http(url: str, *, port_needed: bool = False) -> str:
    """http(s)://host:port, maybe with a path. The Elasticsearch client knows no port by itself for http."""
    parts = _parts(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected an address like http://host:port")
    if port_needed and parts.port is None and parts.scheme == "http":
        raise ValueError("expected an address like http://host:port; the port is missing")
    return url


def check_kafka(servers: str) -> str:
    """host:port, or several with commas between."""
    for server in servers.split(","):
        found = _SERVER.fullmatch(server.strip())
        if not found or not 0 < int(found["port"] or 9092) <= 65535:
            raise ValueError("expected host:port, or several of them with commas between")
    return servers


def redacted(url: str) -> str:
    """The address as it may be shown: without user and password."""
    _, user, place = url.rpartition("@")
    scheme = _SCHEME.match(url)
    shown = _SECRETS.sub("***", f"{scheme[0] if scheme else ''}***@{place}" if user else url)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


def without_secrets(text: str) -> str:
    """The text with every URL in it as it may be shown: without user and password, and without what a query says.

    Keys and tokens stand in queries under any name, so only plain numbers (a page, a limit) are left. Pure.
    """
    return _URL.sub(_shown, text) if "://" in text else text


def _shown(found: re.Match[str]) -> str:
    user = "***@" if found["user"] else ""
    query = _VALUE.sub(_hidden, found["query"] or "")
    return f"{found['scheme']}{user}{found['place']}{query}"


def _hidden(found: re.Match[str]) -> str:
    value = found[1].rstrip(";:,.)")  # the sentence around it
    return found[0] if re.fullmatch("[0-9]{0,12}", value) else f"=***{found[1][len(value) :]}"


def _parts(url: str) -> SplitResult | None:
    """The parts of a URL; None for what is none. Python itself would read past tabs and line ends in one."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        is_one = parts.port != 0
    except ValueError:
        return None
    return parts if is_one else None
