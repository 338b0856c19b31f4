"""Docstrings say first what a thing is, and the words are those that people use."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]
ROOT_PACKAGES = sorted(
    folder
    for folder in PROJECT.iterdir()
    if (folder / "__init__.py").exists() and folder.name not in {"tests", "benchmarks"}
)
PRODUCT = sorted([PROJECT / "cli.py", *(file for folder in ROOT_PACKAGES for file in folder.rglob("*.py"))])
TEXTS = sorted(
    [
        *(PROJECT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "Makefile", "Dockerfile")),
        *PROJECT.glob("docs/**/*.md"),
    ]
)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every string that stands alone: of modules, classes, functions and names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip()


def test_no_docstring_begins_with_a_question_word() -> None:
    assert not [
        f"{file.relative_to(PROJECT)}:{line}: {text[:60]}"
        for file in PRODUCT
        for line, text in docstrings(ast.parse(file.read_text()))
        if re.match(r"(What|How|Whether|Which|Who)\b", text)
    ]


def test_nobody_writes_the_word_anew() -> None:
    """Write "again", "from the start", or name what is done: recreate, rewrite, rejoin."""
    assert not [
        f"{file.relative_to(PROJECT)}:{number}: {line.strip()[:60]}"
        for file in [*PRODUCT, *TEXTS]
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if "anew" in line.lower()
    ]


def test_the_checks_cover_every_package() -> None:
    assert {"api", "runtime", "schemas", "sinks", "stores"} <= {folder.name for folder in ROOT_PACKAGES}
