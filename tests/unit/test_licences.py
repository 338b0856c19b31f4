"""Every package that a user of ours installs is under a licence that lets them use it as they like."""

import re
from importlib.metadata import Distribution, distribution

import pytest
from packaging.requirements import Requirement

from tests.locks import locked

ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0"),
    # As older packages say it.
    *("Apache Software License", "BSD License", "3-Clause BSD License", "ISC License (ISCL)", "MIT License"),
    *("Mozilla Public License 2.0 (MPL 2.0)", "Python Software Foundation License"),
}
"""Of these MPL alone asks for anything but its text: that changes to its own files are published."""

EXCEPTIONS = {
    "docutils": "public domain and BSD; the GPL is that of a mode for Emacs, which its wheel does not hold",
    "supervisor": "Repoze's licence is a BSD licence with a clause about trade marks",
    "venusian": "Repoze's licence, as supervisor's",
}
"""Packages whose metadata alone would not do, each with its reason."""

HERE = [one for one in locked("requirements.lock") if one.marker is None or one.marker.evaluate()]


def stated(metadata: Distribution) -> str:
    """The licence as an expression: of several classifiers all count."""

    def all_of(name: str) -> list[str]:
        return [str(one) for one in metadata.metadata.get_all(name, [])]

    classifiers = [one for one in all_of("Classifier") if one.startswith("License :: OSI Approved :: ")]
    classified = " AND ".join(one.rpartition(" :: ")[2] for one in classifiers)
    return "".join(all_of("License-Expression")) or classified or "".join(all_of("License")).split("\n")[0]


def is_allowed(expression: str) -> bool:
    """True if the licence that an expression leaves us to choose is allowed. One in parentheses counts as a whole."""
    if expression in ALLOWED:
        return True
    while group := re.search(r"(?:^|(?<= ))\(([^()]*)\)(?=$| )", expression):
        expression = expression.replace(group[0], "MIT" if is_allowed(group[1]) else "refused")
    return any(all(one.strip() in ALLOWED for one in part.split(" AND ")) for part in expression.split(" OR "))


@pytest.mark.parametrize("package", HERE, ids=lambda one: one.name)
def test_a_package_that_we_install_is_under_a_licence_that_is_allowed(package: Requirement) -> None:
    licence = stated(distribution(package.name))
    assert is_allowed(licence) != (package.name in EXCEPTIONS), f"{package.name} is under {licence!r}"


def test_every_exception_is_one_of_a_package_that_is_installed() -> None:
    assert EXCEPTIONS.keys() <= {one.name for one in locked("requirements.lock")}
    assert all(EXCEPTIONS.values())


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0", False),
        ("SSPL-1.0", False),
        ("", False),
        ("UNKNOWN", False),
        ("Apache-2.0 OR GPL-2.0", True),
        ("Apache-2.0 AND GPL-2.0", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("MIT AND (GPL-2.0 OR LGPL-2.1)", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("GNU General Public License v3 (GPLv3)", False),
    ],
)
def test_an_expression_is_judged_by_what_it_lets_one_choose(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) == allowed
