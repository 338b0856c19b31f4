"""Downloads every locked wheel, some 250 MB a Python and machine, and keeps none."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.locks import MACHINES, PYTHONS, environment, locked_text
from tests.pip_command import pip_command

GLIBC_MINORS = range(5, 29)
"""Linux from glibc 2.28 on: RHEL 8, Debian 10, Ubuntu 20.04."""

MACOS = "macosx_14_0"


BUILT_FROM_SOURCE = {"Linux on arm64": ("faust-streaming",)}
"""What has no wheel there: pip and uv build the locked source, which needs a C compiler."""


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_locked_package_has_a_wheel(python: str, machine: str, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    built = BUILT_FROM_SOURCE.get(machine, ())
    requirements.write_text(locked_text("requirements-dev.lock", environment(python, machine), leaving_out=built))
    # pip would judge markers by its own Python, so they have been judged here.
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--python-version", python]
    platforms = [word for tag in _platforms(machine) for word in ("--platform", tag)]
    download = [
        *pip_command(),
        "download",
        "--quiet",
        *options,
        *platforms,
        "--dest",
        str(tmp_path),
        "-r",
        str(requirements),
    ]
    done = subprocess.run(download, capture_output=True, text=True, timeout=1800, check=False)
    shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr


def _platforms(machine: str) -> list[str]:
    system, architecture = MACHINES[machine]
    if system == "darwin":
        return [f"{MACOS}_{architecture}"]
    return [f"manylinux_2_{minor}_{architecture}" for minor in GLIBC_MINORS] + [f"manylinux2014_{architecture}"]
