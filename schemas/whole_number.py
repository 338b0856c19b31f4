"""The field type of counts: whole numbers that are whole as they come, never rounded."""

from dataclasses import dataclass
from typing import Any, get_args

from schemas.errors import InvalidField
from schemas.fields import Decimals, Number

_WHOLE = {mark: Number(digits=19, places=0, exact=True, decimal=mark) for mark in get_args(Decimals)}


@dataclass(frozen=True)
class WholeNumber:
    """A whole number from `minimum` to `maximum`, a number in JSON too. `3.0` and `1,000` are whole, `2.5` is not."""

    minimum: int = 0
    maximum: int = 2_147_483_647
    search: bool = False
    decimal: Decimals = "."

    def normalize(self, value: object) -> int | None:
        text = _WHOLE[self.decimal].normalize(value)
        if text is None:
            return None
        number = int(text)
        if not self.minimum <= number <= self.maximum:
            raise InvalidField("out_of_range", f"{text!r} is not between {self.minimum} and {self.maximum}")
        return number

    def column(self) -> str:
        return "INTEGER"

    def mapping(self) -> dict[str, Any]:
        return {"type": "integer"}
