import pytest

from tests.faults.figures import Figure
from tests.faults.report import BEGIN, END, table, with_table

FIGURE = Figure("kill -9", 40, 500_000, 1, 2, 3.25, "a note", "long")


def test_a_figure_is_a_row() -> None:
    assert table([FIGURE]).splitlines()[2] == "| kill -9 | long | 40 | 500,000 | 1 | 2 | 3.2 | a note |"


def test_only_what_is_between_the_marks_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(text, [FIGURE]) == f"before\n{BEGIN}\n{table([FIGURE])}{END}\nafter\n"


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no lines"):
        with_table("before\n", [FIGURE])
