import csv

import pytest

from producers.csv.format import CsvFormat, NotCsv, detect_delimiter, detect_encoding, detect_format


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2\n", ";"),
        ("a\tb\tc,d\n1\t2\t3,4\n", "\t"),
        ("a|b|c\n1|2|3\n", "|"),
        ('"x,y";b\n"1,2";3\n', ";"),
        ("only\n1\n2\n", ","),
        ("name\nSmith, John\n", ","),
        ("", ","),
        ("id;name;note\n1;a;x, y, z\n2;b;p, q\n", ";"),
    ],
)
def test_the_delimiter_is_found_out(sample: str, expected: str) -> None:
    assert detect_delimiter(sample.splitlines(keepends=True)) == expected


def test_a_very_long_cell_does_not_hide_the_delimiter() -> None:
    csv.field_size_limit(131_072)  # as Python starts
    assert detect_delimiter(["id;text\n", f"1;{'x' * 200_000}\n"]) == ";"


def test_a_given_delimiter_is_taken_as_it_is() -> None:
    assert detect_format(b"a,b\n1,\xe4\n", "iso8859-2", ";") == CsvFormat("iso8859-2", ";")


@pytest.mark.parametrize(("given", "used"), [("utf-8-sig", "utf-8"), ("utf-16", "utf-16-be")])
def test_an_encoding_set_with_a_byte_order_mark_is_read_without_it(given: str, used: str) -> None:
    assert detect_encoding(b"\xfe\xff" + "a,b\n".encode("utf-16-be"), given).name == used


def test_an_excel_workbook_is_refused_with_advice() -> None:
    with pytest.raises(NotCsv, match="save it as CSV first"):
        detect_encoding(b"PK\x03\x04rest")
