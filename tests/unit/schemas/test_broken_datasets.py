"""A file of schemas/datasets/ that declares no dataset is named, with the line and what is wrong there."""

import sys
from pathlib import Path

import pytest

from schemas import datasets
from schemas.errors import BrokenDataset
from schemas.registry import all_datasets

MODEL = """from typing import Annotated
from pydantic import BaseModel
from schemas.dataset import Dataset
from schemas.fields import Phone, Text
class Shoe(BaseModel):
    shoe_id: Annotated[str, Text(50)]
    size: int
"""


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ("x = (\n", 1, "SyntaxError"),
        ("import nosuch\n", 1, "No module named 'nosuch'"),
        ("\nx = 1\ny = x / 0\n", 3, "ZeroDivisionError"),
        ("x = 1\n", 1, "has no attribute 'DATASET'"),
        ("DATASET = 7\n", 1, "DATASET is 7"),
        (MODEL + "DATASET = Dataset(name='shoes', model=Shoe, key=('shoe_id',), table='shoes')\n", 8, "size: needs"),
        (MODEL + "PHONE = Phone(region='usa')\n", 8, "'usa' is no country"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_the_reason(
    content: str, line: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "broken_shoes.py"
    file.write_text(content)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
    with pytest.raises(BrokenDataset) as refusal:
        all_datasets.__wrapped__()
    sys.modules.pop("schemas.datasets.broken_shoes", None)
    assert str(refusal.value).startswith(f"{file}, line {line}: ")
    assert why in str(refusal.value)
