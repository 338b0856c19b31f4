"""The id of a request: the caller's own if it is fit for a log line, otherwise a new one."""

import re
import uuid
from contextvars import ContextVar

HEADER = "X-Request-ID"

# Long enough for any tracing system's id; no white space or control characters, which could forge log lines.
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")

_current: ContextVar[str] = ContextVar("request_id", default="")


def request_id_from(header: str | None) -> str:
    """The caller's id if it is sane, otherwise a new random one."""
    return header if header is not None and _SANE.fullmatch(header) else uuid.uuid4().hex


def current_request_id() -> str:
    """The id of the request that is being answered; empty outside of one."""
    return _current.get()


def bind_request_id(request_id: str) -> None:
    """Make it the current one, for this request's context."""
    _current.set(request_id)
