"""The Makefile, as it is called on any machine."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.processes import PROJECT


def test_what_the_machine_says_to_other_projects_is_kept_from_ours(tmp_path: Path) -> None:
    probe = tmp_path / "probe.mk"
    probe.write_text("probe:\n\t@env\n")
    command = ["make", "--silent", "-f", "Makefile", "-f", str(probe), "probe"]
    others = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX")
    told = dict.fromkeys(others, "/elsewhere") | {"PIP_USER": "1", "ELSEWHERE": "as it was"}
    done = subprocess.run(command, cwd=PROJECT, env=os.environ | told, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert found["ELSEWHERE"] == "as it was"
    assert found["PIP_USER"] == "no"
    assert not found.keys() & set(others)


def test_the_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "it's ü $HOME 5%"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-image.lock"):
        shutil.copy(PROJECT / name, folder)
    for program in (programs / "uv", programs / "shell", programs / "headrace", programs / "python"):
        program.write_text('#!/bin/sh\necho "$VIRTUAL_ENV" >>said\n')
        program.chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "SHELL": str(programs / "shell"), "HOME": str(tmp_path)}
    done = subprocess.run(["make", "shell"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set((folder / "said").read_text().splitlines()) >= {str(folder / ".venv")}
