"""Tells who may see personal data where it is masked for others: in failures, topics, traces and drifts."""

from typing import Annotated

from fastapi import Depends, Request

from api.access import Scope, caller_of
from api.clients import OurClients
from runtime.settings import Settings


def sees_personal_data(request: Request, settings: Settings) -> bool:
    """True for a key with the scope `personal`, and for callers without a key where PERSONAL_DATA is `shown`."""
    caller = caller_of(request)
    return Scope.PERSONAL in caller.scopes if caller.is_known else settings.personal_data == "shown"


async def _is_masked(request: Request, clients: OurClients) -> bool:
    return not sees_personal_data(request, clients.settings)


Masked = Annotated[bool, Depends(_is_masked)]
"""True if the caller may not see personal data."""
