"""Who asks, and what they may do."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from starlette.requests import HTTPConnection

CALLER = "headrace.caller"
"""In a request's scope: its Caller."""


class Scope(StrEnum):
    """A right that a key has or has not."""

    READ = "read"
    """Read records and the state of the pipeline."""
    WRITE = "write"
    """Create, change and delete records."""
    OPERATE = "operate"
    """Start runs, and deal with failures, webhooks and audits."""
    PERSONAL = "personal"
    """See personal data where it is masked for others."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a request: a key's name, or a token's subject, and its scopes."""

    name: str
    scopes: frozenset[Scope]


NOBODY = Caller("nobody", frozenset())


def caller_of(request: HTTPConnection | Mapping[str, Any]) -> Caller:
    """The caller of a request, or of its ASGI scope; NOBODY, without any right, where none has been found out."""
    scope = request.scope if isinstance(request, HTTPConnection) else request
    caller: Caller = scope.get(CALLER, NOBODY)
    return caller
