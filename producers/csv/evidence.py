"""What the first rows of a CSV file show of the way in which it was written. Pure."""

from collections.abc import Mapping, Sequence

from schemas.errors import InvalidField
from schemas.fields import Decimals, Number, decimal_mark

_ANY = Number(digits=26, places=10, decimal="unsure")

FEWEST_ROWS = 3
"""Of fewer rows with a cell too many it can't be said that all of the file are so."""


def only_in_rows(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether all rows have one cell more than the header, as R writes row names, and something in the last cell."""
    return len(rows) >= FEWEST_ROWS and all(len(row) == width + 1 and row[-1].strip() for row in rows)


def decimals_found(
    rows: Sequence[Sequence[str]], places: Mapping[str, int], *, sure_of_point: bool
) -> dict[str, Decimals | None]:
    """The decimal mark of each field by the numbers in its place that can be read in one way only; None: a point.

    A field whose numbers show none is like the others, where these agree; else each of its numbers is judged by itself.
    A point is then the decimal mark, if that is sure, as where commas separate columns.
    """
    marks = {name: _marks([row[place] for row in rows if place < len(row)]) for name, place in places.items()}
    everywhere = set().union(*marks.values())
    return {name: _decided(found or everywhere, sure_of_point=sure_of_point) for name, found in marks.items()}


def _marks(texts: Sequence[str]) -> set[str]:
    marks: set[str] = set()
    for text in texts:
        if (mark := decimal_mark(" ".join(text.split()))) and mark not in marks and _is_number(text):
            marks.add(mark)
    return marks


def _decided(marks: set[str], *, sure_of_point: bool) -> Decimals | None:
    if marks == {"."}:
        return None
    if marks == {","}:
        return ","
    return "unsure_comma" if sure_of_point and not marks else "unsure"


def _is_number(text: str) -> bool:
    try:
        return _ANY.normalize(text) is not None
    except InvalidField:
        return False
