"""Counts how other people's material was read, writes it into docs/world.md, and fails on what nobody has explained."""

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from tests.table_rows import with_row

DOCUMENT = Path(__file__).parents[2] / "docs" / "world.md"

Verdict = Literal["right", "refused", "wrong", "crashed"]
"""refused: with a message that says why, and nothing of it stored as something that it is not."""

COLUMNS: tuple[Verdict, ...] = ("right", "refused", "wrong", "crashed")


def try_all(what: str, cases: Mapping[str, Callable[[], Verdict]], explained: Mapping[str, str] | None = None) -> None:
    """Try each case, write the row of `what`, and fail if one crashed or is wrong without an explanation.

    An explanation of something that is not wrong any more fails too.
    """
    verdicts = {name: _verdict(case) for name, case in cases.items()}
    counts = Counter(verdict for verdict, _ in verdicts.values())
    DOCUMENT.write_text(with_figures(DOCUMENT.read_text(), what, len(verdicts), counts))
    explained = explained or {}
    unexplained = [
        f"{name}: {verdict} {why}".rstrip()
        for name, (verdict, why) in verdicts.items()
        if verdict == "crashed" or (verdict == "wrong" and name not in explained)
    ]
    assert not unexplained, "\n".join(unexplained)
    assert {name for name, (verdict, _) in verdicts.items() if verdict == "wrong"} == set(explained)


def _verdict(case: Callable[[], Verdict]) -> tuple[Verdict, str]:
    try:
        return case(), ""
    except Exception as error:  # noqa: BLE001 (that nothing escapes is what is tried)
        return "crashed", f"{type(error).__name__}: {str(error)[:200]}"


def with_figures(text: str, what: str, tried: int, counts: Mapping[Verdict, int]) -> str:
    """The document with these figures in the row of `what`. Pure. Raises ValueError if it has none."""
    day = datetime.datetime.now(datetime.UTC).date()
    row = f"| {what} | {tried:,} | {' | '.join(f'{counts.get(column, 0):,}' for column in COLUMNS)} | {day} |"
    return with_row(text, what, row)


def explain(names: Iterable[str], why: str) -> dict[str, str]:
    """The same explanation for several."""
    return dict.fromkeys(names, why)
