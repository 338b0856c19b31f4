"""Writes the table of `docs/reliability.md` from figures that the fault tests have kept.

make test-faults && .venv/bin/python -m tests.faults.report .figures
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults.figures import Figure, read_figures

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
HEAD = (
    "| fault | form | how often | records in flight | lost | double | seconds to recover | note |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
)


def table(figures: Sequence[Figure]) -> str:
    """A row for each figure, as Markdown."""
    return HEAD + "".join(
        f"| {figure.fault} | {figure.form} | {figure.times:,} | {figure.records:,} | {figure.lost:,} "
        f"| {figure.double:,} | {figure.recovery_seconds:.1f} | {figure.note} |\n"
        for figure in figures
    )


def with_table(text: str, figures: Sequence[Figure]) -> str:
    """The document with the table between its marks replaced. Raises ValueError if it has no such marks."""
    pattern = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the document has no lines {BEGIN} and {END} to put the table between")
    return pattern.sub(lambda _: f"{BEGIN}\n{table(figures)}{END}", text, count=1)


def main(arguments: Sequence[str]) -> int:
    """Write the table; 2 if the folder holds no figures."""
    folder = Path(arguments[0]) if arguments else Path(".figures")
    figures = read_figures(folder)
    if not figures:
        sys.stderr.write(f"{folder} holds no figures: run make test-faults first, or name another folder\n")
        return 2
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(), figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
