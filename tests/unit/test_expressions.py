"""No regular expression of ours takes more than proportional time, whatever text it is tried on (ReDoS)."""

import ast
import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_time_grows_with_the_input import (
    FACTOR,
    HOSTILE,
    MOST,
    _seconds,
)

PROJECT = Path(__file__).parents[2]
PACKAGES = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]

SEARCHES = {"search", "findall", "finditer", "split", "sub", "subn"}
"""Calls that begin at every place of the text; `match` and `fullmatch` begin at its beginning only."""

AGAIN = 20
"""Repetitions of the beginnings of an expression's own literals: what it likes best is most dangerous to it."""

LONG = 12_000
"""Characters; what searches four times as many by their square takes a second."""

Expression = re.Pattern[str] | re.Pattern[bytes]


class Calls(ast.NodeVisitor):
    """Names on which a source searches, and expressions that stand in it as a text: True for those to search with."""

    def __init__(self) -> None:
        self.searched: set[str] = set()
        self.inline: dict[str | bytes, bool] = {}

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            of = node.func.value
            name = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
            first = node.args[0] if node.args else None
            if name == "re" and isinstance(first, ast.Constant) and node.func.attr not in {"escape", "compile"}:
                if isinstance(first.value, str | bytes):
                    searches = self.inline.get(first.value, False) or node.func.attr in SEARCHES
                    self.inline[first.value] = searches
            elif node.func.attr in SEARCHES:
                self.searched.add(name)
        self.generic_visit(node)


def modules() -> Iterator[str]:
    for package in PACKAGES:
        for module in pkgutil.walk_packages([str(PROJECT / package)], f"{package}."):
            if "migrations" not in module.name:
                yield module.name


@cache
def expressions() -> dict[str, tuple[Expression, bool]]:
    """By place and pattern: those in modules and classes, and those in calls of `re`; True for those to search with."""
    found: dict[str, tuple[Expression, bool]] = {}
    calls = {}
    for name in modules():
        calls[name] = Calls()
        calls[name].visit(ast.parse(Path(str(importlib.import_module(name).__file__)).read_text()))
    searched = {of for one in calls.values() for of in one.searched}
    for name, inline in calls.items():
        found |= {f"{name}: {text!r:.60}": (re.compile(text), searches) for text, searches in inline.inline.items()}
        module = vars(importlib.import_module(name))
        for place in (module, *(vars(one) for one in list(module.values()) if isinstance(one, type))):
            named = {of: value for of, value in list(place.items()) if isinstance(value, re.Pattern)}
            found |= {f"{name}: {of}": (value, of in searched) for of, value in named.items()}
    return found


def texts(pattern: Expression) -> Iterator[str]:
    yield from HOSTILE.values()
    source = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    literal = re.sub(r"\\.|[\[\](){}*+?|^$]", "", source)
    yield from {literal[:length] * AGAIN for length in (1, 2, 3, 8) if literal}
    yield from (character * 100 for character in "aA1 \t\n\"'<>&,;:.-_/\\=@#%$x")


@pytest.mark.parametrize("package", PACKAGES)
def test_an_expression_takes_time_in_proportion_to_the_text(package: str) -> None:
    slow = []
    for name, (pattern, searches) in expressions().items():
        if name.startswith(f"{package}."):
            slow += [f"{name} on {text[:20]!r}" for text in texts(pattern) if is_slow(pattern, searches, text)]
    assert slow == []


def is_slow(pattern: Any, searches: bool, text: str) -> bool:
    def work(text: str) -> None:
        given = text + "\x00!"
        subject: Any = given.encode() if isinstance(pattern.pattern, bytes) else given
        pattern.match(subject)
        pattern.fullmatch(subject)
        if searches:
            pattern.subn(subject[:0], subject)

    def is_out_of_proportion() -> bool:
        return _seconds(work, FACTOR * LONG, text) > MOST * _seconds(work, LONG, text)

    # Most need one look only; three, before it is held against them.
    return all(is_out_of_proportion() for _ in range(3))


def test_expressions_are_found() -> None:
    found = expressions().values()
    assert len(found) > 60
    assert sum(searches for _, searches in found) > 10


def test_one_that_takes_longer_is_told_from_others() -> None:
    assert is_slow(re.compile(r"a+c"), True, "a" * 100)
    assert not is_slow(re.compile(r"a+c"), False, "a" * 100)
