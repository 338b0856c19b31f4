"""Imports a library without the optional packages that it would load wherever they are installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Let imports within find these packages absent, unless they are loaded already; later ones find them.

    For imports at the top of a module, not while other threads may import.
    """
    modules: dict[str, Any] = sys.modules
    absent = [package for package in packages if package not in modules]
    modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for package in absent:
            del modules[package]
