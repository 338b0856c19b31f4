"""Personal data is seen by a key's scope, and without a key by the setting."""

import pytest
from fastapi import Request

from api.access import CALLER, EVERYBODY, NOBODY, Caller, Scope
from api.personal import sees_personal_data
from runtime.settings import Settings

AUDITOR = Caller("auditor", frozenset({Scope.READ, Scope.PERSONAL}))
OPERATOR = Caller("operator", frozenset({Scope.READ, Scope.WRITE, Scope.OPERATE}))


@pytest.mark.parametrize("setting", ["shown", "masked"])
@pytest.mark.parametrize(
    ("caller", "sees"),
    [
        *((AUDITOR, True), (OPERATOR, False), (NOBODY, None), (EVERYBODY, None), (None, None)),
        *((Caller("nobody", frozenset()), False), (Caller("everybody", EVERYBODY.scopes), True)),
    ],
)
def test_a_key_sees_by_its_scope_and_everybody_else_by_the_setting(
    caller: Caller | None, sees: bool | None, setting: str
) -> None:
    request = Request({"type": "http"} | ({CALLER: caller} if caller else {}))
    settings = Settings(personal_data=setting)
    assert sees_personal_data(request, settings) is (setting == "shown" if sees is None else sees)
