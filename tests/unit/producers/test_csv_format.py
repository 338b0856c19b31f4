import csv
from pathlib import Path

import pytest

from producers.csv_format import SAMPLE_BYTES, CsvFormat, NotCsv, detect_delimiter, detect_encoding, detect_format


@pytest.mark.parametrize(
    ("codec", "text", "expected"),
    [
        ("ascii", "id,name\n1,Smith\n", "utf-8"),
        ("utf-8", "id,name\n1,Müller\n2,日本\n", "utf-8"),
        ("utf-8-sig", "id,name\n1,Müller\n", "utf-8"),
        ("utf-16", "id,name\n1,Müller\n", "utf-16-le"),
        ("utf-32", "id,name\n1,Müller\n", "utf-32-le"),
        ("utf-16-le", "id,name\n1,Müller\n", "utf-16-le"),
        ("utf-16-be", "id,name\n1,Müller\n", "utf-16-be"),
        ("latin-1", "id,name\n1,Zoë\n", "cp1252"),
        ("latin-1", "id,name\n1,Müller\n2,José García\n3,Françoise\n", "cp1252"),
        ("cp1252", "id,name\n1,“Müller” €5\n2,naïve – café\n", "cp1252"),
        ("cp1250", "id,name\n1,Łukasz Świętosław mieszka w Łodzi\n2,Żółć Gęś\n3,Kraków żąda\n", "cp1250"),
        ("cp1251", "id,name\n1,Иван Петров\n2,Мария Сидорова\n", "cp1251"),
        ("koi8-r", "id,name\n1,Иван Петров\n2,Мария Сидорова\n", "koi8_r"),
        ("shift_jis", "id,name\n1,山田太郎さん\n2,東京都こんにちは\n", "cp932"),
        ("gb18030", "id,name\n1,中文测试数据\n2,你好世界北京\n", "gb18030"),
        ("euc_kr", "id,name\n1,안녕하세요 세계\n2,서울특별시\n", "cp949"),
    ],
)
def test_the_encoding_is_found_out(codec: str, text: str, expected: str) -> None:
    assert detect_encoding(text.encode(codec)) == expected


def test_a_few_bad_lines_do_not_turn_utf_8_into_something_else() -> None:
    assert detect_encoding("1,Müller\n2,Łódź\n".encode() + b"3,\xff\xfe\n") == "utf-8"


def test_a_character_cut_by_the_end_of_the_sample_does_not_count() -> None:
    text = ("x" * 98 + "\n") * (SAMPLE_BYTES // 99 + 1)
    sample = text.encode()[: SAMPLE_BYTES - 1] + "é".encode()[:1]
    assert detect_encoding(sample) == "utf-8"


def test_an_empty_file_is_utf_8() -> None:
    assert detect_encoding(b"") == "utf-8"


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
    assert detect_delimiter(sample) == expected


def test_a_very_long_cell_does_not_hide_the_delimiter() -> None:
    csv.field_size_limit(131_072)  # as Python starts
    assert detect_delimiter(f"id;text\n1;{'x' * 200_000}\n") == ";"


def test_what_is_given_is_not_found_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,\xe4\n")
    assert detect_format(path, "iso8859-2", ";") == CsvFormat("iso8859-2", ";")


@pytest.mark.parametrize(("given", "used"), [("utf-8-sig", "utf-8"), ("utf-16", "utf-16-be")])
def test_a_codec_with_a_byte_order_mark_is_resolved(tmp_path: Path, given: str, used: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xfe\xff" + "a,b\n".encode("utf-16-be"))
    assert detect_format(path, given).encoding == used


def test_an_excel_workbook_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"PK\x03\x04rest")
    with pytest.raises(NotCsv, match="save it as CSV first"):
        detect_format(path)
