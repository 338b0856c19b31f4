import io
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import pytest

from producers.csv.format import NotCsv
from producers.csv.rows import LONGEST_LINE, MOST_LINES, BadRow, CsvRows


def read(content: bytes, width: int | None = 2, encoding: str = "utf-8") -> list[list[str] | BadRow]:
    rows = CsvRows(io.BytesIO(content), encoding, ",")
    rows.width = width
    return list(rows)


def reasons(rows: list[list[str] | BadRow]) -> list[str | list[str]]:
    return [row.reason if isinstance(row, BadRow) else row for row in rows]


def test_line_ends_of_all_systems_end_rows_and_blank_lines_are_none() -> None:
    assert read(b"a,b\r\nc,d\n\n\r\ne,f\rg,h") == [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]


def test_a_quoted_newline_is_part_of_the_value() -> None:
    assert read(b'1,"two\r\nlines"\n2,x\n') == [["1", "two\r\nlines"], ["2", "x"]]


def test_doubled_quotes_and_quotes_inside_an_unquoted_value_are_kept() -> None:
    assert read(b'1,"say ""hi"""\n2,5" wide\n') == [["1", 'say "hi"'], ["2", '5" wide']]


def test_too_few_and_too_many_columns_are_failures_with_line_number_and_bytes() -> None:
    assert read(b"1,a\n2\n3,c,d\n4,e\n") == [
        ["1", "a"],
        BadRow("ragged_row", "line 2: 1 columns, expected 2", b"2\n"),
        BadRow("ragged_row", "line 3: 3 columns, expected 2", b"3,c,d\n"),
        ["4", "e"],
    ]


def test_line_numbers_count_the_lines_of_quoted_values() -> None:
    rows = read(b'1,"a\nb\nc"\nbad\n')
    assert isinstance(rows[1], BadRow)
    assert rows[1].message.startswith("line 4:")


def test_an_unclosed_quote_costs_its_own_line_only() -> None:
    rows = read(b'1,a\n2,"never closed\n3,c\n4,d\n')
    assert reasons(rows) == [["1", "a"], "unclosed_quote", ["3", "c"], ["4", "d"]]
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert bad.payload == b'2,"never closed\n'
    assert bad.message == "line 2: a quote is opened and not closed"


def test_an_unclosed_quote_does_not_swallow_its_neighbour_up_to_the_next_quote() -> None:
    assert reasons(read(b'1,"open\n2,"closed"\n3,c\n')) == ["malformed_row", ["2", "closed"], ["3", "c"]]


def test_an_unclosed_quote_reads_ahead_within_bounds_only() -> None:
    rows = CsvRows(io.BytesIO(b'1,"open\n' + b"2,b\n" * (5 * MOST_LINES)), "utf-8", ",")
    rows.width = 2
    first = next(iter(rows))
    assert isinstance(first, BadRow)
    assert first.reason == "unclosed_quote"


def test_every_row_after_an_unclosed_quote_is_read() -> None:
    count = 3 * MOST_LINES
    rows = read(b'1,"open\n' + b"2,b\n" * count)
    assert reasons(rows) == ["unclosed_quote", *[["2", "b"]] * count]


@pytest.mark.parametrize("between", [0, 1, 50])
def test_quotes_that_open_as_others_close_do_not_have_each_line_read_a_thousand_times(between: int) -> None:
    read_lines = 0

    class Counted(CsvRows):
        def _lines(self) -> Iterator[str]:
            nonlocal read_lines
            for line in super()._lines():
                read_lines += 1
                yield line

    count = 20_000
    rows = Counted(io.BytesIO((b'x","y\n' + b"1,a\n" * between) * (count // (1 + between))), "utf-8", ",")
    rows.width = 2
    with suppress(NotCsv):
        list(rows)
    assert read_lines <= 30 * count + 100_000


@pytest.mark.parametrize("gap", [1, 2, 10, 500])
def test_a_file_full_of_stray_quotes_is_read_to_its_end(gap: int) -> None:
    rows = read((b'1,"open\n' + b"2,b\n" * gap) * (20_000 // gap))
    assert reasons(rows).count(["2", "b"]) == 20_000 // gap * gap


def test_a_quoted_value_of_many_lines_within_bounds_is_one_row() -> None:
    value = "\n".join(str(n) for n in range(MOST_LINES - 1))
    assert read(f'1,"{value}"\n2,b\n'.encode()) == [["1", value], ["2", "b"]]


def test_text_after_a_closing_quote_is_a_failure() -> None:
    assert reasons(read(b'1,"a"b\n2,c\n')) == ["malformed_row", ["2", "c"]]


def test_a_line_without_end_is_cut_and_reading_goes_on_after_it() -> None:
    rows = read(b"1," + b"x" * (3 * LONGEST_LINE) + b"\n2,b\n")
    assert reasons(rows) == ["row_too_long", ["2", "b"]]
    bad = rows[0]
    assert isinstance(bad, BadRow)
    assert len(bad.payload) == LONGEST_LINE


def test_an_endless_line_inside_an_open_quote_is_cut_too() -> None:
    rows = read(b'1,"open\n2,' + b"x" * (2 * LONGEST_LINE) + b"\n3,c\n")
    assert reasons(rows) == ["unclosed_quote", "row_too_long", ["3", "c"]]


@pytest.mark.parametrize(
    ("encoding", "bad"),
    [("utf-8", b"\xff"), ("cp1252", b"\x81"), ("ascii", b"\xe4"), ("cp932", b"\x81\x20"), ("gb18030", b"\xff")],
)
def test_undecodable_bytes_come_back_as_they_were(encoding: str, bad: bytes) -> None:
    line = b"1," + bad + b"x\n"
    rows = CsvRows(io.BytesIO(line), encoding, ",")
    rows.width = 2
    (row,) = islice(rows, 1)
    assert not isinstance(row, BadRow)
    with pytest.raises(UnicodeEncodeError):
        row[1].encode()
    assert rows.payload() == line


def test_a_truncated_utf_16_character_is_no_crash() -> None:
    rows = read("1,a\n2,b".encode("utf-16-le") + b"\x41", encoding="utf-16-le")
    assert rows[0] == ["1", "a"]
    assert len(rows) == 2


def test_a_byte_order_mark_is_dropped() -> None:
    assert read("\ufeff1,a\n".encode("utf-16-le"), encoding="utf-16-le") == [["1", "a"]]
