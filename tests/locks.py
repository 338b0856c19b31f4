"""The lock files as their text says, and what a machine would still have to resolve that installs them."""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = {
    "Linux on x86_64": ("linux", "x86_64"),
    "Linux on arm64": ("linux", "aarch64"),
    "macOS": ("darwin", "arm64"),
}

EXTRAS = {
    "requirements-image.lock": (),
    "requirements.lock": ("local",),
    "requirements-dev.lock": ("local", "dev"),
}
"""The lock files, and the extras of pyproject.toml that each of them is for."""

Requirements = Mapping[str, list[Requirement]]
"""Package: what it requires, as its metadata say."""


def environment(python: str, machine: str) -> dict[str, str]:
    """The markers' values under this Python on this machine."""
    platform, architecture = MACHINES[machine]
    return {name: str(value) for name, value in default_environment().items()} | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_version": f"{python}.0",
        "sys_platform": platform,
        "platform_system": platform.title(),
        "platform_machine": architecture,
    }


def locked(name: str) -> list[Requirement]:
    """Every package of a lock file, and of those that it begins with."""
    return [one for one, _ in _blocks(name)]


def locked_text(name: str, here: Mapping[str, str], *, leaving_out: Collection[str] = ()) -> str:
    """Lines of a lock file that count here, with their hashes, without the markers that pip would judge itself."""
    return "".join(
        f"{one.name}{one.specifier} \\\n{hashes}\n"
        for one, hashes in _blocks(name)
        if one.name not in leaving_out
        if one.marker is None or one.marker.evaluate(here)
    )


def _blocks(name: str) -> Iterator[tuple[Requirement, str]]:
    """Each requirement with the lines of its hashes."""
    text = (PROJECT / name).read_text()
    for base in re.findall(r"^-r (\S+)$", text, re.MULTILINE):
        yield from _blocks(base)
    for line, hashes in re.findall(r"^([a-z0-9].*?) \\\n((?: +.*\n)+)", text, re.MULTILINE):
        yield Requirement(line), hashes


@cache
def installed() -> dict[str, list[Requirement]]:
    """Requirements of every package in this Python."""
    return {
        canonicalize_name(one.metadata["Name"]): [Requirement(line) for line in one.requires or ()]
        for one in distributions()
    }


def needed(
    lock: list[Requirement], here: Mapping[str, str], extras: tuple[str, ...], requirements: Requirements
) -> tuple[set[str], list[str]]:
    """Names of what these extras of the project need here, and what of it the lock does not say, as sentences.

    A package that no machine like this one has installed is taken to require nothing.
    """
    versions = {one.name: one.specifier for one in lock if one.marker is None or one.marker.evaluate(here)}
    gaps, seen, open_ends = [], set[tuple[str, str]](), [("headrace", extra) for extra in ("", *extras)]
    while open_ends:
        package, extra = open_ends.pop()
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        for wanted in _active(requirements.get(package, []), here, extra):
            name = canonicalize_name(wanted.name)
            version = str(versions.get(name, "")).removeprefix("==")
            if not version or not wanted.specifier.contains(version, prereleases=True):
                gaps.append(f"{package} needs {wanted.name}{wanted.specifier}, locked is {version or 'nothing'}")
            open_ends += [(name, one) for one in ("", *wanted.extras)]
    return {package for package, _ in seen}, sorted(set(gaps))


def _active(requirements: list[Requirement], here: Mapping[str, str], extra: str) -> Iterator[Requirement]:
    for one in requirements:
        if one.marker is None or one.marker.evaluate({**here, "extra": extra}):
            yield one
