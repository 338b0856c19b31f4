"""Refuses query parameters that an endpoint does not have: a filter that is ignored gives a wrong answer."""

from http import HTTPStatus
from typing import get_origin

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from api.problems import ProblemAnswer

MOST_NAMED = 5
"""Wrong parameters in one answer; the rest is told by their number."""

LONGEST_NAME = 80


async def refuse_unknown_parameters(request: Request) -> None:
    """A dependency for whole routers: it reads from the route itself which parameters there are.

    Raises ProblemAnswer for a name that the route does not know, and for a value that is given twice where one counts.
    """
    if not request.scope["query_string"]:
        return
    known = known_parameters(request.scope["route"])
    given = request.query_params
    wrong = {name: "there is no such parameter" for name in given if name not in known}
    if len(given.multi_items()) > len(given):
        repeated = {name for name in given if known.get(name) is False and len(given.getlist(name)) > 1}
        wrong |= dict.fromkeys(sorted(repeated), "given more than once")
    if wrong:
        raise _refusal(wrong, sorted(known))


def known_parameters(route: APIRoute) -> dict[str, bool]:
    """Query parameters of a route and its dependencies; True for those that take several values."""
    return {
        field.alias: get_origin(field.field_info.annotation) in (list, set, frozenset, tuple)
        for field in get_flat_params(route.dependant)
        if isinstance(field.field_info, Query)
    }


def _refusal(wrong: dict[str, str], known: list[str]) -> ProblemAnswer:
    errors = [{"parameter": name[:LONGEST_NAME], "message": wrong[name]} for name in list(wrong)[:MOST_NAMED]]
    more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
    told = "; ".join(f"{error['parameter']!r}: {error['message']}" for error in errors) + more
    there_is = f"known here: {', '.join(known)}" if known else "no parameters are known here"
    return ProblemAnswer(
        HTTPStatus.BAD_REQUEST, "unknown-parameter", f"{told} ({there_is})", errors=errors, known=known
    )
