"""The field type of dates."""

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from schemas.errors import InvalidField
from schemas.fields.field_type import LONGEST_NOTATION, FieldType, Shortcut
from schemas.text import UNSEEN, tidy

if TYPE_CHECKING:
    import pyarrow
    from sqlalchemy.types import TypeEngine

# After a date, a time of day is read over; anything else after it is no date.
_TIME = (
    r"(?:[T ][0-9]{1,2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?(?: ?[AaPp][Mm])?"
    r"(?: ?(?:[A-Z]{1,5}|[+-][0-9]{2}(?::?[0-9]{2})?))?(?: \([^()]*\))?)?"
)
_YEAR_FIRST = re.compile(rf"([0-9]{{4}})(?:([-/.])([0-9]{{1,2}})\2([0-9]{{1,2}})|([0-9]{{2}})([0-9]{{2}})){_TIME}")
_YEAR_LAST = re.compile(rf"([0-9]{{1,2}})([-/.])([0-9]{{1,2}})\2([0-9]{{4}}){_TIME}")
_WEEKDAY = re.compile(r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?,? ", re.IGNORECASE)
_NAMED_MONTH = re.compile(
    rf"(?:([0-9]{{1,2}})[ -]([A-Z]{{3,9}})\.?,?[ -]|([A-Z]{{3,9}})\.? ([0-9]{{1,2}}),? )([0-9]{{4}}){_TIME}",
    re.IGNORECASE,
)
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip
# English, whatever the machine's locale: strptime would follow that.
_MONTH_NUMBERS = {name[:length]: n for n, name in enumerate(_MONTHS, 1) for length in (3, len(name))} | {"sept": 9}


def _iso(value: object, check: Callable[[str], object] = datetime.date.fromisoformat) -> str | None:
    if type(value) is str and len(value) == 10 and value[4] == "-" == value[7]:
        try:
            check(value)
        except ValueError:
            return None
        return value
    return None


@dataclass(frozen=True)
class Date(FieldType):
    """A calendar date as ISO text. Understood: 2024-01-31, 2024/1/31, 20240131, ISO and RFC 2822 date-times, 31.1.2024,
    31 Jan 2024, January 31, 2024. Of a date-time the date is kept as it is written, whatever the time zone.

    In 01/02/2024 and 01-02-2024 `slashes` decides which is the day, unless only one reading is possible; where it is
    None they are refused as `ambiguous_date`. Dotted forms are day first. Years have four digits.
    """

    python_types = (datetime.date,)
    json_type = "string"

    slashes: Literal["day_first", "month_first"] | None = None
    search: bool = False

    def shortcut(self) -> Shortcut:
        return _iso

    def normalize(self, value: object) -> str | None:
        text = tidy(value, LONGEST_NOTATION, UNSEEN)
        if text is None:
            return None
        try:
            if len(text) == 10 and text[4] == "-" == text[7]:
                datetime.date.fromisoformat(text)
                return text
            return self._parse(text).isoformat()
        except InvalidField:
            raise
        except ValueError:
            raise InvalidField("date_form", f"{text[:40]!r} is not a date; expected e.g. 2024-01-31") from None

    def _parse(self, text: str) -> datetime.date:
        if match := _YEAR_FIRST.fullmatch(text):
            return datetime.date(int(match[1]), int(match[3] or match[5]), int(match[4] or match[6]))
        if match := _YEAR_LAST.fullmatch(text):
            return self._year_last(text, int(match[1]), int(match[3]), int(match[4]), match[2])
        if match := _NAMED_MONTH.fullmatch(_WEEKDAY.sub("", text, count=1)):
            month = _MONTH_NUMBERS.get((match[2] or match[3]).lower())
            if month is not None:
                return datetime.date(int(match[5]), month, int(match[1] or match[4]))
        raise ValueError(text)

    def _year_last(self, text: str, first: int, second: int, year: int, separator: str) -> datetime.date:
        order = "day_first" if separator == "." else self.slashes
        # One reading only: 31/1 and 1/31 can be nothing else, and 1/1 is the same either way.
        if first > 12 or second > 12 or first == second:
            order = "month_first" if second > 12 and separator != "." else "day_first"
        if order is None:
            raise InvalidField(
                "ambiguous_date",
                f"{text[:40]!r} is two dates, day or month first; set `dates` in the source's block",
            )
        month, day = (first, second) if order == "month_first" else (second, first)
        return datetime.date(year, month, day)

    def sql_type(self) -> "TypeEngine[Any]":
        from sqlalchemy import DATE

        return DATE()

    def arrow_type(self) -> "pyarrow.DataType":
        import pyarrow

        return pyarrow.date32()

    def mapping(self) -> dict[str, Any]:
        return {"type": "date", "format": "yyyy-MM-dd"}
