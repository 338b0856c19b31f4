import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.locks import EXTRAS, MACHINES, PROJECT, PYTHONS, environment, installed, locked, needed

PROJECT_FILE = tomllib.loads((PROJECT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", EXTRAS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_a_lock_is_complete_by_itself(lock: str, python: str, machine: str) -> None:
    _, gaps = needed(locked(lock), environment(python, machine), EXTRAS[lock], _requirements())
    assert gaps == []


@pytest.mark.parametrize("left_out", ["coverage", "pydantic-core", "hatchling"])
def test_a_lock_that_lacks_one_package_is_found_out(left_out: str) -> None:
    lock = [one for one in locked("requirements-dev.lock") if one.name != left_out]
    _, gaps = needed(lock, environment("3.11", "macOS"), ("local", "dev"), _requirements())
    assert gaps
    assert all(f"needs {left_out}" in gap and gap.endswith("locked is nothing") for gap in gaps)


def test_a_lock_with_a_version_that_another_package_refuses_is_found_out() -> None:
    lock = [one for one in locked("requirements.lock") if one.name != "starlette"] + [Requirement("starlette==0.1")]
    _, gaps = needed(lock, environment("3.13", "Linux on arm64"), ("local",), _requirements())
    assert any("fastapi needs starlette" in gap and "locked is 0.1" in gap for gap in gaps)


def test_a_package_that_one_machine_needs_is_locked_for_that_machine() -> None:
    requirements = _requirements() | {
        "rich": [Requirement("pretty; sys_platform == 'darwin' and python_version > '3.12'")]
    }
    lock = locked("requirements-image.lock")
    assert not needed(lock, environment("3.12", "macOS"), (), requirements)[1]
    assert not needed(lock, environment("3.13", "Linux on arm64"), (), requirements)[1]
    assert needed(lock, environment("3.13", "macOS"), (), requirements)[1] == ["rich needs pretty, locked is nothing"]


def test_every_package_is_locked_once_with_hashes_and_is_needed_somewhere() -> None:
    names = [one.name for one in locked("requirements-dev.lock")]
    assert len(names) == len(set(names))
    somewhere = {
        name
        for python in PYTHONS
        for machine in MACHINES
        for name in needed([], environment(python, machine), ("local", "msk", "dev"), _requirements())[0]
    }
    ours = {one.name for one in locked("requirements-dev.lock") if "win32" not in str(one.marker)}
    assert ours - somewhere == set(), "nothing needs these: make lock"
    for lock in EXTRAS:
        for package in re.split(r"\n(?=\S)", (PROJECT / lock).read_text()):
            assert package.startswith("-r ") or "--hash=sha256:" in package, package


@pytest.mark.parametrize("installer", ["Makefile", "Dockerfile"])
def test_nothing_is_resolved_where_a_lock_is_installed(installer: str) -> None:
    text = (PROJECT / installer).read_text().replace("\\\n", " ")
    installs = re.findall(r"(?:pip|\$\(PIP\)) install --(.*?)(?:&&|;|\n)", text)
    assert installs
    for options in installs:
        assert "--no-deps" in options
        assert "--no-build-isolation -e ." in options or "--require-hashes" in options, options
    assert re.search(r"(pip|\$\(PIP\)) check", text)


def _requirements() -> dict[str, list[Requirement]]:
    """What each installed package needs; this project as its file says now, which an install may be older than."""
    project = PROJECT_FILE["project"]
    ours = [Requirement(line) for line in project["dependencies"]]
    for extra, lines in project["optional-dependencies"].items():
        for package, _, marker in (line.partition(";") for line in lines):
            ours.append(Requirement(f"{package}; extra == '{extra}'" + (f" and ({marker})" if marker else "")))
    return installed() | {"headrace": ours}
