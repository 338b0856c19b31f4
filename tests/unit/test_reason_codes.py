"""The table of reason codes is that of the code: each one that a stage can give is in it, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from schemas.registry import all_datasets

PROJECT = Path(__file__).parents[2]
FOLDERS = ("schemas", "producers", "stream_processors", "sinks", "rehearsals", "services", "stores")
FIRST_ARGUMENT = {"InvalidRecord", "InvalidField", "BadRow", "_rejected"}
"""What is called with a reason code first."""


def codes_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            given = node.args[:1] if name in FIRST_ARGUMENT else node.args[1:2] if name == "FieldProblem" else []
            given += [keyword.value for keyword in node.keywords if keyword.arg == "reason" and name == "FailedRecord"]
            for argument in given:
                for one in argument.values if isinstance(argument, ast.BoolOp) else [argument]:
                    yield from text_of(one)
        elif isinstance(node, ast.JoinedStr):
            yield from re.findall("^([a-z_]+);", "".join(text_of(node.values[0])))
        elif isinstance(node, ast.FunctionDef) and node.name == "reason_of_refusal":
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from text_of(inner.value)


def text_of(node: ast.AST) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def codes_of_the_code() -> set[str]:
    files = [file for folder in FOLDERS for file in (PROJECT / folder).rglob("*.py")]
    found = {code for file in files for code in codes_in(ast.parse(file.read_text()))}
    return found | {f"{field}_conflict" for dataset in all_datasets() for field in dataset.unique}


def test_the_table_has_every_reason_code_and_no_other() -> None:
    table = (PROJECT / "docs/failures.md").read_text()
    assert set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)) == codes_of_the_code()
